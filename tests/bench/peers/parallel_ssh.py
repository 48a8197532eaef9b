"""parallel-ssh. It does not look at host keys. FOLDER PORT USER COMMAND"""

from __future__ import annotations

import sys
from pathlib import Path

from pssh.clients import ParallelSSHClient

folder, port, user, command = Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3], sys.argv[4]
addresses = (folder / "addresses").read_text().split()
client = ParallelSSHClient(
    addresses, user=user, port=port, pkey=str(folder / "client"), pool_size=64
)
print(sum(list(output.stdout) == ["hi"] for output in client.run_command(command)))
