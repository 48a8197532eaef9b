"""Runs that were made, and the events of one, as tables on stdout."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any

from backline import wording
from backline.console.cells import bare
from backline.console.output import console
from backline.console.words import sentence, subject
from backline.wording import plain, plain_lines

ENDINGS = {
    0: ("done", "green"),
    1: ("error", "red"),
    3: ("MIXED", "bold red"),
    4: ("rolled back", "red"),
    5: ("lease held", "yellow"),
    6: ("refused", "yellow"),
    130: ("interrupted", "yellow"),
}


def show_runs(rows: Iterable[Mapping[str, Any]]) -> None:
    """Runs, newest last: two lines each, so that no column is cut on a narrow terminal."""
    from rich.text import Text

    out = console(sys.stdout)
    for row in rows:
        words, style = _ending(row)
        head = Text(f"{_moment(row['began'])}  ", end="")
        head.append(f"{row['how'] or '?':8} ", "bold").append(f"{row['release'] or ''}  ")
        head.append(words, style)
        if row["seconds"] is not None:
            head.append(f" in {wording.lasting(row['seconds'])}", "dim")
        out.print(head, soft_wrap=True)
        where = f"run {row['run']}  plan {row['plan']}  {wording.hosts(row['hosts'])}"
        by = f"    {where}  by {plain(row['actor'])}"
        out.print(by, style="dim", markup=False, soft_wrap=True)
        if row["message"]:
            out.print(f"    why: {plain(row['message'])}", markup=False, soft_wrap=True)


def show_commands(rows: Iterable[Mapping[str, Any]]) -> None:
    """Commands, newest last: when and how they ended, who ran them where, and why."""
    from rich.text import Text

    from backline.console.words import listed

    out = console(sys.stdout)
    for row in rows:
        head = Text(f"{_moment(row['began'])}  ", end="")
        code = row["exit_code"]
        words, style = ("no end known", "red") if code is None else ENDINGS.get(code, ("?", "red"))
        if code == 1:
            words = f"failed on {listed(row['failed'] or ())}"
        head.append(words, style).append(
            f"  {'sudo ' if row['sudo'] else ''}{plain(row['command'])}"
        )
        out.print(head, soft_wrap=True)
        out.print(
            f"    on {listed(row['hosts'] or ())}  by {plain(row['actor'])}",
            style="dim",
            markup=False,
            soft_wrap=True,
        )
        if row["message"]:
            out.print(f"    why: {plain(row['message'])}", markup=False, soft_wrap=True)


def show_events(entries: Iterable[Mapping[str, Any]]) -> None:
    """The events of one run: time, seconds since it began, what happened."""
    from rich.text import Text

    out = console(sys.stdout)
    table = bare()
    for name in ("LINE", "TIME", "AFTER"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("WHAT", overflow="fold")
    began: float | None = None
    for entry in entries:
        at = entry.get("time")
        began = at if began is None else began
        after = f"{at - began:.1f} s" if at is not None and began is not None else ""
        clock = f"{datetime.fromtimestamp(at, UTC):%H:%M:%S}" if at is not None else ""
        style = {"failed": "red", "warning": "yellow", "phase": "bold"}.get(str(entry.get("event")))
        what = Text(plain_lines(in_words(entry)), style=style or "")
        table.add_row(str(entry.get("seq", "")), clock, after, what)
    out.print(table)


def in_words(entry: Mapping[str, Any]) -> str:
    """A journal's line as people read it; its bare fields when it is of a kind we do not know."""
    from backline.rollout.events import Event

    kind = str(entry.get("event") or entry.get("verb") or "?")
    fields = ("host", "process", "release", "text", "seconds")
    apart = ("schema_version", "event", "time", "run", "seq", "prev", "hash", *fields)
    data = {key: value for key, value in entry.items() if key not in apart}
    known = {key: entry[key] for key in fields if key in entry}
    event = Event(kind, data=data, **known)
    try:
        if kind == "begun":
            return f"{data.get('how')} {event.release} by {data.get('actor')}: {event.text or '-'}"
        if kind == "ended":
            return f"ended with {data.get('exit_code')}{': ' if event.text else ''}{event.text}"
        if kind == "begin":
            return f"{subject(event)}{event.text}…"
        return subject(event) + sentence(event)
    except (KeyError, TypeError, ValueError):
        return f"{kind} " + " ".join(f"{key}={value}" for key, value in (known | data).items())


def _ending(row: Mapping[str, Any]) -> tuple[str, str]:
    code = row["exit_code"]
    if code is not None:
        words, style = ENDINGS.get(code, ("ended", "yellow"))
        if row["how"] == "abort" and code == 0:
            words, style = "taken back", "yellow"
        return f"{words} ({code})", style
    if row.get("ended"):
        return "broke off", "red"
    return (
        ("cut off, gone on with later", "yellow") if row["gone_on_with"] else ("unfinished", "red")
    )


def _moment(seconds: float) -> str:
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%d %H:%M:%SZ}"
