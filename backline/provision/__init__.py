"""What a run of Ansible did, told from its events; and the lock that keeps two runs apart."""
