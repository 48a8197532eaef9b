#!/usr/bin/env python3
"""Make one archive with every wheel of a hash-locked requirements file, for another machine.

Runs on the controller. Wheels are downloaded for the target's Python and processor; packages
that only exist as sources are built here, and must come out as pure Python. The archive holds the
wheels and requirements.txt, which pins the digest of each wheel, so that the host checks what it
got with `pip install --no-index --require-hashes`. Written whole or not at all.
Uses the pip of the Python it is run by, and pip's own configuration for where packages come from.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

# Newest first. Debian 12 has glibc 2.36, so that each of these runs there.
GLIBC_TAGS = ("manylinux_2_28", "manylinux_2_17", "manylinux2014", "manylinux2010", "manylinux1")


class WheelhouseError(Exception):
    """The wheelhouse could not be made; the message says why and what to do."""


def run_pip(*arguments: str) -> None:
    """Run this Python's pip; raise WheelhouseError with the end of its output when it fails."""
    done = subprocess.run(
        [sys.executable, "-m", "pip", "--disable-pip-version-check", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    if done.returncode == 0:
        return
    tail = "\n".join(done.stdout.splitlines()[-15:])
    hint = ""
    if "No module named pip" in tail:
        hint = f"\n{sys.executable} has no pip: install it there (`uv pip install pip`)."
    raise WheelhouseError(f"pip {arguments[0]} failed on the controller:\n{tail}{hint}")


def download(lock: Path, into: Path, python: str, machine: str) -> None:
    """Fetch what the lock pins, as wheels for the target where there are any, else as sources."""
    platforms = [f"--platform={tag}_{machine}" for tag in GLIBC_TAGS]
    run_pip(
        "download",
        "--quiet",
        "--no-deps",
        "--require-hashes",
        f"--dest={into}",
        "--implementation=cp",
        f"--python-version={python}",
        *platforms,
        f"--requirement={lock}",
    )


def build_sources(folder: Path) -> None:
    """Turn each source archive in the folder into a pure wheel, and remove the archive."""
    for source in sorted(p for p in folder.iterdir() if p.suffix != ".whl"):
        before = set(folder.glob("*.whl"))
        run_pip("wheel", "--quiet", "--no-deps", f"--wheel-dir={folder}", str(source))
        for wheel in set(folder.glob("*.whl")) - before:
            if not wheel.name.endswith("-none-any.whl"):
                raise WheelhouseError(
                    f"{source.name} has no wheel for the target and builds one for this machine "
                    f"only ({wheel.name}): pin a version that has wheels"
                )
        source.unlink()


def pin(folder: Path) -> None:
    """Write requirements.txt: name, version and digest of every wheel in the folder."""
    lines = []
    for wheel in sorted(folder.glob("*.whl")):
        name, version = wheel.name.split("-")[:2]
        digest = hashlib.sha256(wheel.read_bytes()).hexdigest()
        lines.append(f"{name}=={version} --hash=sha256:{digest}\n")
    if not lines:
        raise WheelhouseError("the lock names no package")
    (folder / "requirements.txt").write_text("".join(lines), encoding="utf-8")


def pack(folder: Path, archive: Path) -> None:
    """Pack the folder's files, owned by root and without times, and rename into place."""

    def plain(member: tarfile.TarInfo) -> tarfile.TarInfo:
        member.uid = member.gid = member.mtime = 0
        member.uname = member.gname = "root"
        member.mode = 0o644
        return member

    partial = archive.with_name(f".{archive.name}.{os.getpid()}")
    try:
        with tarfile.open(partial, "w") as tar:
            for path in sorted(folder.iterdir()):
                tar.add(path, arcname=path.name, filter=plain)
        partial.replace(archive)
    finally:
        partial.unlink(missing_ok=True)


def main(argv: list[str] | None = None) -> int:
    """Make the archive; print its path. Returns 0, or 1 with the reason on stderr."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("lock", type=Path, help="requirements with --hash for each")
    parser.add_argument("archive", type=Path, help="tar to write")
    parser.add_argument("--python", required=True, help="target's Python, for example 3.11")
    parser.add_argument("--machine", required=True, help="target's processor, for example x86_64")
    options = parser.parse_args(argv)
    options.archive.parent.mkdir(parents=True, exist_ok=True)
    try:
        with tempfile.TemporaryDirectory(prefix="wheelhouse-") as folder:
            wheels = Path(folder)
            download(options.lock, wheels, options.python, options.machine)
            build_sources(wheels)
            pin(wheels)
            pack(wheels, options.archive)
    except (WheelhouseError, OSError) as error:
        print(error, file=sys.stderr)
        return 1
    print(options.archive)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
