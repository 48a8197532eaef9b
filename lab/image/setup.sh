#!/bin/sh
# Turns a plain Debian 12 root file system into a lab host: what a cloud image would bring.
# Runs inside the root file system, once, while the image is built.
set -eu

# The bootstrap administrator, as cloud images have one: key only, sudo without a password.
useradd --uid 1000 --user-group --create-home --shell /bin/bash backline
passwd --lock backline >/dev/null
passwd --lock root >/dev/null
printf 'backline ALL=(ALL:ALL) NOPASSWD: ALL\n' >/etc/sudoers.d/90-bootstrap
chmod 0440 /etc/sudoers.d/90-bootstrap

# Host keys are made per host when the lab is made, never shared through the image.
rm -f /etc/ssh/ssh_host_*
printf 'PasswordAuthentication no\nPermitRootLogin no\nUseDNS no\n' >/etc/ssh/sshd_config.d/10-lab.conf

# Nothing to mount, log in on or wait for inside a container.
systemctl mask --quiet getty@tty1.service console-getty.service systemd-logind.service \
  systemd-networkd-wait-online.service systemd-udevd.service systemd-udev-trigger.service \
  apt-daily.timer apt-daily-upgrade.timer e2scrub_all.timer fstrim.timer
# The kernel takes one auditor, the machine's own. The role base configures it before it is enabled.
systemctl disable --quiet auditd.service
systemctl enable --quiet ssh.service
systemctl set-default --quiet multi-user.target
: >/etc/machine-id
