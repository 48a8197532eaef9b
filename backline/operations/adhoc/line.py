"""What a line typed into `fab shell` means. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from backline.errors import BacklineError

VIEWS = ("fold", "stream", "diff")
HELP = {
    "COMMAND": "run it on the selected hosts",
    "@PATTERN COMMAND": "run it on these hosts, this once",
    "!include FILE": "do the lines of a file as if they were typed; lines with # are comments",
    r"\on PATTERN": "select other hosts; alone: say which are selected",
    r"\fold, \stream, \diff": "how answers are shown",
    r"\timing": "say how long each command took, or no longer",
    r"\timeout SECONDS": "how long each host may take",
    r"\help": "this",
    r"\quit": "leave, as the end of the input does",
}
SETTINGS = ("on", *VIEWS, "timing", "timeout", "help", "quit")
VALUED = ("on", "timeout")


@dataclass(frozen=True)
class Line:
    """`kind`: nothing, run (`where` is a pattern, or empty for the selection), include (`text` is
    the file), set (`where` is the setting's name, `text` what follows it)."""

    kind: Literal["nothing", "run", "include", "set"]
    text: str = ""
    where: str = ""


def parse(typed: str) -> Line:
    """The meaning of a line. Raises BacklineError when it has none.

    A line that begins with a space is a command, whatever comes after the space.
    """
    text = typed.rstrip("\n")
    if not text.strip() or text.startswith("#"):
        return Line("nothing")
    if text.startswith("@"):
        where, _, command = text[1:].partition(" ")
        if not where or not command.strip():
            raise BacklineError("@ takes hosts and a command: @stream1 uptime")
        return Line("run", command.strip(), where)
    if text.startswith("!"):
        word, _, file = text[1:].partition(" ")
        if word != "include" or not file.strip():
            raise BacklineError(
                f"{text.split()[0]} means nothing: there is only `!include FILE`",
                hint="a command that begins with ! is typed behind a space",
            )
        return Line("include", file.strip())
    if text.startswith("\\"):
        return _setting(text)
    return Line("run", text.strip())


def _setting(text: str) -> Line:
    name, _, rest = text[1:].partition(" ")
    found = [word for word in SETTINGS if word.startswith(name)] if name else []
    exact = [name] if name in SETTINGS else found
    if len(exact) != 1:
        known = ", ".join(f"\\{word}" for word in SETTINGS)
        raise BacklineError(f"\\{name} is not one of {known}")
    if rest.strip() and exact[0] not in VALUED:
        raise BacklineError(f"\\{exact[0]} takes nothing behind it")
    return Line("set", rest.strip(), exact[0])


def completions(before: str, hosts: list[str], groups: list[str]) -> list[str]:
    """The words that may stand where the line `before` ends, for the parts that are ours: what is a
    command of the hosts only they know."""
    names = ["all", *groups, *hosts]
    if before.startswith("\\") and " " not in before:
        return [f"\\{word}" for word in SETTINGS if f"\\{word}".startswith(before)]
    if before.startswith("!") and " " not in before:
        return ["!include "] if "!include ".startswith(before) else []
    if (before.startswith("@") and " " not in before) or before.startswith("\\on "):
        cut = max((before.rfind(sign) for sign in "@ ,:&!"), default=-1) + 1
        return [name for name in names if name.startswith(before[cut:])]
    return []
