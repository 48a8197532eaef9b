"""Which lines of the journals are wanted, and how a host is asked for them. Pure."""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass

from backline.errors import BacklineError

FIELDS = "MESSAGE,PRIORITY,_SYSTEMD_UNIT,SYSLOG_IDENTIFIER,_PID"
PRIORITIES = ("emerg", "alert", "crit", "err", "warning", "notice", "info", "debug")
LINES, LINES_FOLLOWED = 100, 10
_SPAN = re.compile(r"\d+ ?(s|sec|m|min|h|hours?|d|days?|w|weeks?)")


@dataclass(frozen=True)
class Wanted:
    """`since`, `until`: as journalctl takes them (`10 min ago`, `2026-11-22 19:00`), or a span back
    from now (`10m`). `grep`: a Perl regular expression; in lower case alone it fits either case.
    `units`: any of these, patterns too. `priority`: this and worse. `lines`: at most so many of the
    newest of each host; 0: all that were asked for by time or text, else 100. With `follow`: where to
    begin without `since`, 10 lines back if 0; `grep` looks for fitting ones from there on.
    `silence`: seconds after which a host that says nothing is given up; not with `follow`."""

    follow: bool = False
    since: str = ""
    until: str = ""
    grep: str = ""
    units: tuple[str, ...] = ()
    priority: str = ""
    lines: int = 0
    silence: float = 60.0

    def check(self) -> None:
        """Raises BacklineError when it makes no sense."""
        worst, _, least = self.priority.partition("..")
        for word in filter(None, (worst, least)):
            if word not in (*PRIORITIES, *map(str, range(len(PRIORITIES)))):
                raise BacklineError(
                    f"there is no priority {word!r}", hint=f"priorities: {', '.join(PRIORITIES)}"
                )
        if self.lines < 0:
            raise BacklineError("--lines is a number from 0 up")
        if self.follow and self.until:
            raise BacklineError("--follow has no end: leave --until away")
        if self.follow and self.since and self.lines:
            raise BacklineError("--follow gives all lines --since then: leave --lines away")

    @property
    def backward(self) -> bool:
        """Whether a host sends its newest line first: only so does journalctl count the newest of the
        lines that fit a time or a text."""
        return bool(self.lines and not self.follow and (self.since or self.until or self.grep))

    def command(self, after: str = "", later: float = 0.0) -> str:
        """What a host is asked, as one string for `sh -c`. `after`: the cursor of the last line that
        was had of it, to go on there; `later`: where none was had, the time to go on from."""
        self.check()
        since = f"@{later:.0f}" if later else _moment(self.since)
        words = ["journalctl", "--output=json", "--all", "--no-pager", f"--output-fields={FIELDS}"]
        words += [f"--unit={unit}" for unit in self.units]
        for flag, value in (
            ("after-cursor", after),
            ("since", "" if after else since),
            ("until", _moment(self.until)),
            ("grep", self.grep),
            ("priority", self.priority),
            ("lines", "all" if after or later else self._newest()),
        ):
            words += [f"--{flag}={value}"] if value else []
        words += ["--follow"] if self.follow else []
        words += ["--reverse"] if self.backward else []
        return f"LC_ALL=C {shlex.join(words)}"

    def _newest(self) -> str:
        if self.lines:
            return str(self.lines)
        if self.follow:
            return "all" if self.since else str(LINES_FOLLOWED)
        return "" if self.since or self.until or self.grep else str(LINES)


def _moment(text: str) -> str:
    return f"-{text}" if _SPAN.fullmatch(text) else text
