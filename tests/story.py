"""A page that tells a story, command by command, as steps that can be taken one after the other.

What the reader does not see stands in comments of the page:

    <!-- trouble: NAME -->      what happens before the next command; the test knows how to make it
    <!-- full lab -->           the next command needs three database hosts
    <!-- exit 1 -->             how the next command ends (0 where nothing is said; `any` for either)
    <!-- holds: TEXT | TEXT --> behind a block: what the command must print, and the page shows
    <!-- lacks: TEXT | TEXT --> behind a block: what it must not print

Blanks count once: columns are as wide as the day's names.
"""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass, field

TOKEN = re.compile(r"^```console\n(?P<block>.*?)^```|<!-- (?P<note>.*?) -->", re.M | re.S)
COLOUR = re.compile(r"\x1b\[[0-9;]*m")


@dataclass
class Step:
    """One command of the story. `code`: its exit code, None for any. `shown`: what the page prints."""

    words: list[str]
    shown: str
    code: int | None = 0
    troubles: list[str] = field(default_factory=list)
    full: bool = False
    holds: list[str] = field(default_factory=list)
    lacks: list[str] = field(default_factory=list)

    def wrong(self, code: int, printed: str) -> list[str]:
        """What is not as the page tells, in words; nothing when all is."""
        said = flat(printed)
        found = [f"ended with {code}"] if self.code not in (None, code) else []
        found += [f"does not say {text!r}" for text in self.holds if flat(text) not in said]
        found += [f"says {text!r}" for text in self.lacks if flat(text) in said]
        return found


def flat(text: str) -> str:
    """Without colours, and with one blank for any number of them."""
    return " ".join(COLOUR.sub("", text).split())


def read(text: str) -> list[Step]:
    """The steps of a page. Raises ValueError for a note that nobody understands."""
    steps: list[Step] = []
    before: list[str] = []
    for token in TOKEN.finditer(text):
        note = token["note"]
        if note is None:
            steps.append(_step(token["block"], before))
            before = []
        elif note.startswith(("holds: ", "lacks: ")):
            kind, _, rest = note.partition(": ")
            getattr(steps[-1], kind).extend(part.strip() for part in rest.split(" | "))
        else:
            before.append(note)
    if before:
        raise ValueError(f"no command follows: {before}")
    return steps


def _step(block: str, notes: list[str]) -> Step:
    command, _, shown = block.replace("\\\n", " ").partition("\n")
    if not command.startswith("$ ") or "\n$ " in f"\n{shown}":
        raise ValueError(f"one command to a block: {block!r}")
    step = Step(shlex.split(command[2:]), shown)
    for note in notes:
        word, _, rest = note.partition(" ")
        if note == "full lab":
            step.full = True
        elif word == "exit" and (rest.isdigit() or rest == "any"):
            step.code = None if rest == "any" else int(rest)
        elif word == "trouble:":
            step.troubles.append(rest)
        else:
            raise ValueError(f"a note that nobody understands: {note!r}")
    return step
