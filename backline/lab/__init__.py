"""The lab: a real fleet of systemd hosts in podman containers on one machine.

`topology` says which hosts there are, `machine` fits podman to this machine, `image` builds the
hosts' image, `fleet` makes, lists and removes the hosts, `secrets` and `files` write what Ansible
reads. `backline.tasks.lab` is what a person types.
"""
