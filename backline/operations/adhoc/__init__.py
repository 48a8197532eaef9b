"""Any command on many hosts: how it is carried out, what came of it, who said the same."""
