"""Fabric's own ThreadingGroup. It accepts any host key. FOLDER PORT USER COMMAND"""

from __future__ import annotations

import sys
from pathlib import Path

from fabric import Connection, ThreadingGroup

folder, port, user, command = Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3], sys.argv[4]
keys = {"key_filename": str(folder / "client"), "look_for_keys": False, "allow_agent": False}
hosts = [
    Connection(address, user=user, port=port, connect_kwargs=keys)
    for address in (folder / "addresses").read_text().split()
]
found = ThreadingGroup.from_connections(hosts).run(command, hide=True)
print(sum(result.stdout == "hi\n" for result in found.values()))
