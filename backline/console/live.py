"""The board below the lines of a run: what each host of the batch does now, and how far all are.

Rich draws it again four times a second; it never takes more than half of the terminal, and each of
its lines is cut at the terminal's width.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from backline import wording
from backline.console.words import verdict

if TYPE_CHECKING:
    from rich.console import Console, ConsoleOptions
    from rich.text import Text

    from backline.rollout.events import Event

MOST = 16
BAR = 24
LANDED = ("switch", "rollback")
"""What makes a process's turn done; the end of the old one comes after it."""


@dataclass
class _Host:
    """What one host does. `doing` is empty while it waits, or when it is done."""

    doing: str = ""
    since: float = 0.0
    sent: int = 0
    total: int = 0
    failed: str = ""
    landed: set[str] = field(default_factory=set)


class Board:
    """Takes events, draws the state they add up to."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self.clock = clock
        self.hosts: dict[str, _Host] = {}
        self.title = ""
        self.phase = ""
        self.seconds = 0.0
        self.verdict = ""
        self.well: bool | None = None
        self._began = self._phase_began = clock()
        self._steps: dict[str, set[str]] = {}

    def take(self, event: Event) -> None:
        """Keeps what an event says of the state."""
        if event.kind == "begun":
            self._plan(event.data.get("plan") or {})
        elif event.kind == "phase":
            self._enter(event)
        elif event.kind == "verdict":
            self.verdict, self.well = verdict(event), event.data.get("well")
        elif event.host:
            self._host(event, self.hosts.setdefault(event.host, _Host()))

    def _plan(self, plan: dict[str, Any]) -> None:
        for step in plan.get("steps", ()):
            if step["live"] != plan.get("release"):
                self._steps.setdefault(step["host"], set()).add(step["process"])

    def _enter(self, event: Event) -> None:
        data = event.data
        self.phase, self.seconds = str(data["phase"]), float(data.get("seconds") or 0)
        self._phase_began = self.clock()
        self.title = {
            "batch": f"batch {data.get('number')} of {data.get('of')}",
            "soak": f"watch after batch {data.get('number')}",
            "retreat": "going back",
        }.get(self.phase, self.phase)
        before = self.hosts
        self.hosts = {host: _Host() for host in data.get("hosts") or ()}
        for host, state in before.items():  # who is at work stays on the board
            if state.doing:
                self.hosts[host] = state

    def _host(self, event: Event, state: _Host) -> None:
        if event.kind == "progress":
            state.sent, state.total = event.data["sent"], event.data["total"]
        elif event.kind == "begin":
            state.doing = f"{event.process} {event.text}" if event.process else event.text
            state.since, state.sent, state.total = self.clock(), 0, 0
        elif event.kind == "failed":
            state.doing, state.failed = "", event.text
        elif event.kind != "warning":
            state.doing = ""
            if event.kind in LANDED or (event.kind == "stage" and self.phase == "stage"):
                state.landed.add(event.process or event.kind)

    def _done(self, name: str) -> bool:
        state = self.hosts[name]
        wanted = {"stage"} if self.phase == "stage" else self._steps.get(name, set())
        return bool(wanted) and wanted <= state.landed and not state.doing

    # Drawing.

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[Text]:
        from rich.text import Text

        height = min(MOST, max(3, console.size.height // 2))
        try:
            lines = self.lines(height, options.ascii_only)
        except Exception:  # the lines above are printed through here too, and matter more
            return
        for parts in lines:
            text = Text("  ", no_wrap=True, overflow="ellipsis", end="\n")
            for words, style in parts:
                text.append(wording.plain(words), style)
            text.truncate(options.max_width - 1, overflow="ellipsis")
            yield text

    def lines(self, height: int, ascii_only: bool = False) -> list[list[tuple[str, str]]]:
        """At most `height` lines, each a list of (words, style)."""
        now = self.clock()
        head = [self._head(now, ascii_only)] if self.title else []
        style = {True: "green", False: "bold red"}.get(self.well, "yellow")  # type: ignore[arg-type]
        foot = [[("probe     ", "dim"), (self.verdict, style)]] if self.verdict else []
        room = max(1, height - len(head) - len(foot))
        shown = sorted(self.hosts, key=self._rank)
        if self.phase in ("soak", "finish"):  # all of them do the same
            shown = [name for name in shown if self._rank(name) < 2]
        more = []
        if len(shown) > room:
            working = [name for name in shown if self._rank(name) < 2][: room - 1]
            more = [[(f"+ {len(shown) - len(working)} more", "dim")]]
            shown = working
        wide = max((len(name) for name in shown), default=0)
        return head + [self._line(name, wide, now, ascii_only) for name in shown] + more + foot

    def _rank(self, name: str) -> int:
        """Those at work first, then those that failed, those that wait, those that are done."""
        state = self.hosts[name]
        return 0 if state.doing else 1 if state.failed else 3 if self._done(name) else 2

    def _head(self, now: float, ascii_only: bool) -> list[tuple[str, str]]:
        passed = now - self._phase_began
        clock = (f"  {_clock(now - self._began)}", "dim")
        if self.phase == "soak" and self.seconds:
            bar = _bar(min(1.0, passed / self.seconds), ascii_only)
            said = f"  {min(passed, self.seconds):.0f} of {self.seconds:g} s"
            return [(f"{self.title}  ", "bold"), *bar, (said, ""), clock]
        if self.phase in ("batch", "stage") and self.hosts:
            done = sum(self._done(name) for name in self.hosts)
            bar = _bar(done / len(self.hosts), ascii_only)
            said = f"  {done} of {wording.hosts(len(self.hosts))}"
            return [(f"{self.title}  ", "bold"), *bar, (said, ""), clock]
        return [(f"{self.title}  ", "bold"), (wording.hosts(len(self.hosts)), ""), clock]

    def _line(self, name: str, wide: int, now: float, ascii_only: bool) -> list[tuple[str, str]]:
        state = self.hosts[name]
        head = (f"{name:{wide}}  ", "")
        if state.doing and state.total:
            bar = _bar(state.sent / state.total, ascii_only)
            said = f"  {state.sent / 1e6:.1f} of {state.total / 1e6:.1f} MB"
            return [head, (f"{state.doing}  ", "cyan"), *bar, (said, "")]
        if state.doing:
            return [head, (f"{state.doing}…", "cyan"), (f"  {now - state.since:.0f} s", "dim")]
        if state.failed:
            return [head, (state.failed, "red")]
        return [head, ("done", "green") if self._done(name) else ("waits", "dim")]


def _bar(share: float, ascii_only: bool) -> list[tuple[str, str]]:
    full = round(BAR * max(0.0, min(1.0, share)))
    on, off = ("#", "-") if ascii_only else ("━", "─")
    return [(on * full, "green"), (off * (BAR - full), "bright_black")]


def _clock(seconds: float) -> str:
    whole = round(seconds)
    return f"{whole // 60}:{whole % 60:02}"
