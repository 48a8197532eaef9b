#!/bin/sh
# Why this host should be rebooted, a reason a line; nothing when it need not.
set -eu
if [ -e /run/reboot-required ]; then echo 'an upgrade asked for it'; fi
newest=$(find /boot -maxdepth 1 -name 'vmlinuz-*' -printf '%f\n' 2>/dev/null | sort -V | tail -n 1)
if [ -n "$newest" ] && [ "${newest#vmlinuz-}" != "$(uname -r)" ]; then
  echo "kernel ${newest#vmlinuz-}"
fi
