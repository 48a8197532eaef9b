"""This database host's PgBouncer: its console, and whom it connects to.

The console is a socket that only the system's user pgbouncer may use. PgBouncer 1.18 does not tell
whether it is paused, so that a marker with its process ID remembers it.
"""

from __future__ import annotations

import json
from typing import Any

from . import files
from .cluster import Settings
from .errors import HostctlError
from .host import Completed, Host

MARKER = "/run/backline/pgbouncer-paused"
USER = "pgbouncer"
SAY_WITHIN = 5.0
NOT_PAUSED = "not paused"


class PgBouncer:
    """Pauses, resumes and turns it elsewhere. All of it may be said again."""

    def __init__(self, host: Host, settings: Settings) -> None:
        self.host = host
        self.tool = str(settings.pgbouncer["tool"])
        self.socket_dir = str(settings.pgbouncer["socket_dir"])
        self.port = int(settings.pgbouncer["port"])
        self.postgresql = settings.socket_dir

    def pause(self, within: float) -> None:
        """New transactions wait from now on; returns when the running ones are over.

        Raises `HostctlError` (not_paused) when they are not over within so many seconds; then nothing
        is paused.
        """
        if self.paused():
            return
        self._remember()
        ended = self._console("PAUSE", within)
        if ended.status == 0:
            return
        self.resume()
        if ended.status is None:
            reason = f"running transactions did not end within {within:g} s"
            hint = "see which: fab db.psql --command 'select pid, xact_start, query from "
            hint += "pg_stat_activity where xact_start is not null order by 2'"
        else:
            reason, hint = _said(ended), "journalctl -u pgbouncer on the host"
        raise HostctlError("not_paused", f"{reason}; nothing is paused", hint)

    def resume(self) -> None:
        """Whoever waits goes on. Raises `HostctlError` (pgbouncer_failed)."""
        ended = self._console("RESUME", SAY_WITHIN)
        if ended.status != 0 and NOT_PAUSED not in ended.err:
            raise self._failed("RESUME", ended, "clients may still wait")
        files.remove(self.host.path(MARKER))

    def follow(self, address: str) -> None:
        """Connect to another member's PostgreSQL. Raises `HostctlError` (pgbouncer_failed)."""
        ended = self.host.run([self.tool, "follow", address], timeout=SAY_WITHIN)
        if ended.status != 0:
            raise self._failed("follow", ended, "it connects to whom it did")

    def home(self) -> None:
        """Connect to this host's PostgreSQL again. Raises `HostctlError` (pgbouncer_failed)."""
        ended = self.host.run([self.tool, "home"], timeout=SAY_WITHIN * 2)
        if ended.status != 0:
            raise self._failed("home", ended, "it connects to whom it did")

    def paused(self) -> bool:
        """True while clients wait because it was told so."""
        try:
            found = json.loads(self.host.path(MARKER).read_text())
        except (OSError, ValueError):
            return False
        return isinstance(found, dict) and found.get("pid") == self._pid()

    def following(self) -> str | None:
        """The address of the member it connects to instead of this host's; None at home.

        Raises `HostctlError` (pgbouncer_failed).
        """
        hosts = {row["host"] for row in self.show("databases") if row.get("name") != "pgbouncer"}
        elsewhere = sorted(hosts - {self.postgresql, ""})
        return elsewhere[0] if elsewhere else None

    def clients(self) -> dict[str, int]:
        """{active, waiting}: clients of the application."""
        rows = [row for row in self.show("pools") if row.get("database") != "pgbouncer"]
        names = {"active": "cl_active", "waiting": "cl_waiting"}
        return {ours: sum(int(row[theirs]) for row in rows) for ours, theirs in names.items()}

    def show(self, what: str) -> list[dict[str, str]]:
        """The rows of `SHOW what`. Raises `HostctlError` (pgbouncer_failed)."""
        ended = self._console(f"SHOW {what}", SAY_WITHIN, "--csv")
        if ended.status != 0:
            raise self._failed(f"SHOW {what}", ended, "nothing was changed")
        return parse(ended.out)

    def _console(self, words: str, within: float, *options: str) -> Completed:
        argv = ["psql", "--no-psqlrc", "--quiet", "--set=ON_ERROR_STOP=1", *options]
        argv += ["-h", self.socket_dir, "-p", str(self.port), "-d", "pgbouncer", "-c", words]
        user = USER if self.host.become else None
        return self.host.run(argv, timeout=within, user=user, group=user)

    def _remember(self) -> None:
        path = self.host.path(MARKER)
        path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
        files.write_atomic(path, json.dumps({"pid": self._pid()}).encode(), 0o600)

    def _pid(self) -> str:
        argv = ["systemctl", "show", "--property=MainPID", "--value", "pgbouncer.service"]
        return self.host.run(argv, timeout=10).out.strip()

    def _failed(self, what: str, ended: Completed, state: str) -> HostctlError:
        return HostctlError(
            "pgbouncer_failed",
            f"PgBouncer does not take {what}: {_said(ended)}; {state}",
            "systemctl status pgbouncer; backline-pgbouncer resume; backline-pgbouncer home",
        )


def parse(csv_text: str) -> list[dict[str, Any]]:
    """The rows of `psql --csv`, by column."""
    import csv

    return list(csv.DictReader(csv_text.splitlines()))


def _said(ended: Completed) -> str:
    return " ".join((ended.err or ended.out).split())[:300] or "no answer in time"
