"""What hosts answered to a command: folded, as differences, or line by line as it comes."""

from __future__ import annotations

import codecs
import sys
import threading
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Protocol, TextIO

from backline import wording
from backline.console import paint
from backline.console.output import line as json_line

if TYPE_CHECKING:
    from backline.console.progress import Progress
    from backline.operations.adhoc.fold import Group
    from backline.operations.adhoc.results import Result

STATE_STYLES = {"ok": "green", "skipped": "yellow", "interrupted": "yellow"}


class View(Protocol):
    """Shows results. `heard` may be called from several threads, the others from one."""

    def heard(self, host: str, stream: str, data: bytes) -> None:
        """A piece of output, before the host is done."""

    def take(self, result: Result) -> None:
        """A host is done."""

    def quiet(self) -> None:
        """Nothing has come for a while."""

    def end(self) -> None:
        """All hosts are done."""


class Folded:
    """Hosts with the same outcome, together. Those that are done are shown when the rest keeps us
    waiting. With `differences`, who differs from the majority is shown by how; the others are shown
    early only once more than half of all `hosts` have said the same."""

    def __init__(self, progress: Progress, hosts: Sequence[str], differences: bool = False) -> None:
        self.out, self.progress, self.differences = sys.stdout, progress, differences
        self.half = len(hosts) / 2
        self.colour = paint.wanted(self.out)
        self._waiting: list[Result] = []
        self._usual: Group | None = None

    def heard(self, host: str, stream: str, data: bytes) -> None:
        """Shown when the host is done."""

    def take(self, result: Result) -> None:
        """See View."""
        self._waiting.append(result)

    def quiet(self) -> None:
        """See View."""
        self._show()

    def end(self) -> None:
        """See View."""
        self._show(all_done=True)

    def _show(self, all_done: bool = False) -> None:
        from backline.operations.adhoc.fold import fold, majority

        groups = fold(self._waiting)
        if not groups:
            return
        if self.differences and self._usual is None:
            found = majority(groups)
            if not all_done and (found is None or len(found.hosts) <= self.half):
                return
            self._usual = found
        self._waiting = []
        with self.progress.above:
            self.progress.clear()
            for group in groups:
                self._group(group)
            self.out.flush()

    def _group(self, group: Group) -> None:
        names = _names(group.hosts)
        count = wording.hosts(len(group.hosts))
        style = STATE_STYLES.get(group.state, "red")
        head = f"{names}  {count}, {_outcome(group.result)}"
        self._print(paint.paint(f"── {head}", style, self.colour))
        for text in self._body(group, names):
            self._print(paint.shown(text, self.out))

    def _body(self, group: Group, names: str) -> Iterable[str]:
        from backline.operations.adhoc.fold import TEXT_STATES, difference

        usual = self._usual
        cut = ["… more than is kept here: --outdir keeps all of it"] if group.result.cut else []
        if group.state not in TEXT_STATES:
            why = [f"   {paint.plain_lines(group.result.why)}"] if group.result.why else []
            return [*why, *group.lines, *cut]
        if usual is None or usual is group or not self.differences:
            return [*group.lines, *cut]
        lines = difference(usual, group, (_names(usual.hosts), names))
        return lines or ["   (says the same)"]

    def _print(self, text: str) -> None:
        self.out.write(f"{text}\n")


class Streamed:
    """Each line as it comes, behind its host's name; of standard error behind a `!`."""

    def __init__(self, progress: Progress, hosts: Iterable[str]) -> None:
        self.out: TextIO = sys.stdout
        self.progress = progress
        self.colour = paint.wanted(self.out)
        self.width = max((len(host) for host in hosts), default=0)
        self._parts: dict[tuple[str, str], bytes] = {}
        self._lock = threading.Lock()

    def heard(self, host: str, stream: str, data: bytes) -> None:
        """See View."""
        with self._lock:
            whole = self._parts.pop((host, stream), b"") + data
            *lines, rest = whole.split(b"\n")
            if len(rest) > 1 << 16:
                _, end = codecs.utf_8_decode(rest, "replace", False)  # before half a character
                lines, rest = [*lines, rest[:end]], rest[end:]
            if rest:
                self._parts[host, stream] = rest
            self._lines(host, stream, lines)

    def take(self, result: Result) -> None:
        """See View."""
        with self._lock:
            for stream in ("stdout", "stderr"):
                rest = self._parts.pop((result.host, stream), b"")
                self._lines(result.host, stream, [rest] if rest else [])
            if not result.ok:
                text = paint.paint(_outcome(result), "red", self.colour)
                why = f": {paint.plain_lines(result.why)}" if result.why else ""
                self._write(f"{paint.host(result.host, self.width, self.colour)} ! {text}{why}\n")

    def quiet(self) -> None:
        """See View."""

    def end(self) -> None:
        """See View."""

    def _lines(self, host: str, stream: str, lines: list[bytes]) -> None:
        if lines:
            mark = "|" if stream == "stdout" else "!"
            head = f"{paint.host(host, self.width, self.colour)} {mark} "
            texts = (paint.shown(line.decode(errors="replace"), self.out) for line in lines)
            self._write("".join(f"{head}{text}\n" for text in texts))

    def _write(self, text: str) -> None:
        with self.progress.above:
            self.progress.clear()
            self.out.write(text)
            self.out.flush()


class AsJson:
    """A line of NDJSON for each host as it is done."""

    def heard(self, host: str, stream: str, data: bytes) -> None:
        """Part of the result."""

    def take(self, result: Result) -> None:
        """See View."""
        json_line(result.as_json())

    def quiet(self) -> None:
        """See View."""

    def end(self) -> None:
        """See View."""


def _outcome(result: Result) -> str:
    if result.state == "failed" and result.code is not None:
        return f"exit {result.code}"
    if result.state == "ok":
        return "exit 0"
    words = {"timeout": "not done in time", "skipped": "not begun", "failed": "failed"}
    word = words.get(result.state, result.state)
    return f"{word} ({result.kind})" if result.state == "unreachable" else word


def _names(hosts: Iterable[str]) -> str:
    from backline.selection import fold

    return fold(hosts)
