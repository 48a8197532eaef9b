"""What people type. `fab` and `inv` come here by fabfile.py and tasks.py."""

import sys

# invoke lets nobody keep bytecode, so that none lies beside a tasks.py: each run would compile all of
# this package anew, a sixth of `fab --list`. Whoever told Python itself so is obeyed.
sys.dont_write_bytecode = bool(sys.flags.dont_write_bytecode)
