"""Build the hostctl zipapp: the same sources give the same bytes, on any machine.

`python -m backline.hostctl_build OUT` writes OUT when it differs and prints
{"path", "sha256", "changed"}. `--check` writes nothing and prints what would happen.
"""

from __future__ import annotations

import argparse
import hashlib
import io
import json
import os
import sys
import zipfile
from collections.abc import Sequence
from pathlib import Path

SOURCE = Path(__file__).parent / "hostctl"
# -I: nothing of the caller's environment or folder is imported. -S: no site packages, fast start.
SHEBANG = b"#!/usr/bin/python3 -IS\n"
# Units start through `exec`: it goes the short way, past everything the verbs need.
MAIN = """import sys

if sys.argv[1:2] == ["exec"] and not {"-h", "--help"} & set(sys.argv):
    from hostctl.execute import run
    from hostctl.host import Host

    sys.exit(run(Host(), sys.argv[2:]))

from hostctl.cli import main

sys.exit(main(sys.argv[1:]))
"""
EPOCH = (1980, 1, 1, 0, 0, 0)


def build(source: Path = SOURCE) -> bytes:
    """The zipapp as bytes. Members are stored: a compressor's version would change them."""
    members = {"__main__.py": MAIN.encode()}
    for path in sorted(source.glob("*.py")):
        members[f"hostctl/{path.name}"] = path.read_bytes()
    buffer = io.BytesIO(SHEBANG)
    buffer.seek(0, io.SEEK_END)
    with zipfile.ZipFile(buffer, "a") as archive:
        for name in sorted(members):
            info = zipfile.ZipInfo(name, EPOCH)
            info.create_system = 3
            info.external_attr = 0o100644 << 16
            archive.writestr(info, members[name])
    return buffer.getvalue()


def write(out: Path, *, check: bool = False) -> dict[str, object]:
    """Build and write `out` (mode 0755) if its content differs. Returns {path, sha256, changed}."""
    content = build()
    changed = not out.is_file() or out.read_bytes() != content
    if changed and not check:
        out.parent.mkdir(parents=True, exist_ok=True)
        temporary = out.with_name(f".{out.name}.{os.getpid()}.tmp")
        temporary.write_bytes(content)
        temporary.chmod(0o755)
        temporary.replace(out)
    return {
        "path": str(out.resolve()),
        "sha256": hashlib.sha256(content).hexdigest(),
        "changed": changed,
    }


def main(arguments: Sequence[str]) -> int:
    """Entry point of `python -m backline.hostctl_build`."""
    parser = argparse.ArgumentParser(prog="python -m backline.hostctl_build", description=__doc__)
    parser.add_argument("out", type=Path, help="where to write the zipapp")
    parser.add_argument("--check", action="store_true", help="write nothing")
    options = parser.parse_args(arguments)
    print(json.dumps(write(options.out, check=options.check)))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
