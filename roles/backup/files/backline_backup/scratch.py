"""A cluster restored into a folder of its own: its own socket, no network, never an archive."""

from __future__ import annotations

import contextlib
import re
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from . import pgbackrest, supervise
from .errors import BackupError, CommandError
from .psql import Psql
from .supervise import Limits, mib

START_SECONDS = 60
STOP_SECONDS = 60
LOOK_SECONDS = 0.5
GRAVE = re.compile("FATAL|ERROR|PANIC")


@dataclass(frozen=True)
class Scratch:
    """`folder` is made and removed whole; the folder it lies in has to be there, owned by us."""

    folder: Path
    bin_dir: Path
    port: int
    memory_mb: int

    @property
    def data(self) -> Path:
        return self.folder / "data"

    @property
    def socket(self) -> Path:
        return self.folder / "socket"

    @property
    def log(self) -> Path:
        return self.folder / "server.log"

    def restore(
        self, stanza: str, backup: pgbackrest.Backup, target: Sequence[str], limits: Limits
    ) -> None:
        """Restores the backup's files. Raises BackupError; what is there by then stays for remove()."""
        free = shutil.disk_usage(self.folder.parent).free
        if free - backup.size < limits.free_bytes:
            raise BackupError(
                f"no room for {mib(backup.size)} at {self.folder.parent}:"
                f" {mib(free)} are free, {mib(limits.free_bytes)} have to stay free"
            )
        for folder in (self.folder, self.data, self.socket, self.folder / "tablespaces"):
            folder.mkdir(mode=0o700)
        (self.folder / "postgresql.conf").write_text("", encoding="utf-8")
        (self.folder / "pg_ident.conf").write_text("", encoding="utf-8")
        # Whoever gets to the socket is this very user: the folder is nobody else's.
        (self.folder / "pg_hba.conf").write_text("local all all trust\n", encoding="utf-8")
        tablespaces = self.folder / "tablespaces"
        argv = pgbackrest.restore(stanza, backup.label, self.data, tablespaces, target)
        # Results go to stdout, and this is none.
        print(supervise.run(argv, limits), end="", file=sys.stderr, flush=True)

    def start(self, limits: Limits) -> None:
        """Starts the server and waits until it has recovered and takes writes. Raises BackupError."""
        try:
            supervise.run(self._ctl("start", f"--timeout={START_SECONDS}"), limits)
            # Without hot standby pg_ctl does not wait for the end of recovery.
            while not self._open(limits):
                supervise.run(self._ctl("status"), limits)
                time.sleep(LOOK_SECONDS)
        except CommandError as error:
            raise BackupError(f"the server did not start: {self._reason()}") from error

    def _open(self, limits: Limits) -> bool:
        try:
            return self.psql(limits).json(
                "select to_json(not pg_is_in_recovery());", "postgres"
            ) == [True]
        except CommandError:
            return False

    def stop(self, limits: Limits) -> None:
        supervise.run(self._ctl("stop", "--mode=fast"), limits)

    def remove(self) -> None:
        """Stops what runs and removes all of it. No limits: it is what keeps to them."""
        if (self.data / "postmaster.pid").exists():
            words = self._ctl("stop", "--mode=immediate")
            with contextlib.suppress(subprocess.TimeoutExpired):
                subprocess.run(words, check=False, capture_output=True, timeout=STOP_SECONDS)
        if self.folder.exists():
            shutil.rmtree(self.folder)

    def psql(self, limits: Limits) -> Psql:
        return Psql(self.bin_dir, self.environment(), limits)

    def hint(self) -> str:
        """How somebody looks into it."""
        return f"psql -h {self.socket} -p {self.port} -U postgres"

    def environment(self) -> dict[str, str]:
        return {"PGHOST": str(self.socket), "PGPORT": str(self.port), "PGUSER": "postgres"}

    def _ctl(self, action: str, *options: str) -> list[str]:
        words = [str(self.bin_dir / "pg_ctl"), action, f"--pgdata={self.data}", *options]
        if action == "start":
            words += [f"--log={self.log}", f"--options={shlex.join(self._server_options())}"]
        return words

    def _server_options(self) -> list[str]:
        """Over what the files of the cluster say, which were made for another host."""
        settings = {
            "config_file": self.folder / "postgresql.conf",
            "hba_file": self.folder / "pg_hba.conf",
            "ident_file": self.folder / "pg_ident.conf",
            "unix_socket_directories": self.socket,
            "listen_addresses": "",
            "port": self.port,
            "ssl": "off",
            "archive_mode": "off",
            "autovacuum": "off",
            # Recovery without it does not ask for the leader's number of connections.
            "hot_standby": "off",
            "logging_collector": "off",
            "log_destination": "stderr",
            "shared_preload_libraries": "",
            "shared_buffers": f"{max(32, self.memory_mb // 4)}MB",
            "maintenance_work_mem": f"{max(32, self.memory_mb // 8)}MB",
            "huge_pages": "off",
            "jit": "off",
        }
        return [word for name, value in settings.items() for word in ("-c", f"{name}={value}")]

    def _reason(self) -> str:
        """The server's own last errors."""
        with contextlib.suppress(OSError):
            log = self.log.read_text(encoding="utf-8", errors="replace")
            lines = [line for line in log.splitlines() if GRAVE.search(line)]
            if lines:
                return "; ".join(line.split(":  ", 1)[-1] for line in lines[-3:])
        return "its log says nothing"
