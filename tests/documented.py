"""The commands that a page shows, as a reader would type them."""

from __future__ import annotations

import copy
import functools
import importlib
import re
import shlex
from collections.abc import Mapping
from typing import Any

from backline.tasks.steps import ROOT

FENCE = re.compile(r"^ *```(\w*)\n(.*?)^ *```", re.M | re.S)
OURS = re.compile(r"(?:^|[|;&(] *)(?:fab|inv) ")
SHOWN = re.compile(
    r"^ *```console\n(?P<block>.*?)^ *```|`(?P<inline>(?:fab|ansible-[a-z]+) [^`]+)`", re.M | re.S
)
INLINE = re.compile(r"`((?:fab|inv) [^`]+)`")
APART = {"|", "||", "&&", ";", "&", ">", ">>", "<", "(", ")", "$("}
PLACEHOLDER = re.compile(r"[A-Z][A-Z-]*")
"""What stands for something of the reader's own: ENV, HOST, N."""
WHERE = {"run", "shell", "restart", "reboot", "patch"}
"""Tasks that are refused without --on."""
WHICH = {"deploy", "deploy.start", "deploy.plan"}
"""Tasks that are refused without --release; but for a saved plan."""
STANDS_FOR = re.compile(r"\b[A-Z][A-Z]+\b")
"""What a page writes where the reader has a word of their own."""
SPOKEN = {"COMMAND"}
"""Words in capitals that stand for themselves."""


def commands(page: str, section: str = "") -> list[str]:
    """The commands of the page's console blocks, each as one line; of one section if it is named."""
    text = (ROOT / page).read_text(encoding="utf-8")
    if section:
        parts = re.split(r"^## ", text, flags=re.M)
        text = next(part for part in parts if part.startswith(section))
    blocks = re.findall(r"^```console\n(.*?)^```", text, re.M | re.S)
    lines = "".join(blocks).replace("\\\n", " ").splitlines()
    return [
        re.sub(r"\s+", " ", re.sub(r"\s# .*", "", line[2:])).strip()
        for line in lines
        if line.startswith("$ ")
    ]


def shown(text: str) -> list[str]:
    """Every command that a text tells its reader to type, in the order of the text, each as one line.

    Those of its consoles, and those of its sentences that say on which fleet: `fab restart` alone is a name.
    """
    found: list[str] = []
    for match in SHOWN.finditer(text):
        if match["block"] is not None:
            lines = match["block"].replace("\\\n", " ").splitlines()
            found += [line.strip()[2:] for line in lines if line.strip().startswith("$ ")]
        elif " --env " in match["inline"] or not match["inline"].startswith("fab"):
            found.append(match["inline"])
    return [re.sub(r"\s+", " ", command) for command in found]


def filled(command: str, names: Mapping[str, str]) -> list[str]:
    """The words of a command with `names` put in: {what the page says: what the reader has}.

    What it redirects, or hands on, is cut off. AssertionError for what stands for something still.
    """
    known = sorted(names, key=len, reverse=True)
    parts = "|".join(rf"(?<!\w){re.escape(name)}(?!\w)" for name in known)
    words = [re.sub(parts, lambda match: names[match[0]], word) for word in shlex.split(command)]
    cut = next((number for number, word in enumerate(words) if word in APART), len(words))
    left = {name for word in words[:cut] for name in STANDS_FOR.findall(word)} - SPOKEN
    assert not left - {*names.values()}, f"what is {', '.join(sorted(left))} in `{command}`?"
    return words[:cut]


def ours(text: str) -> list[list[str]]:
    """Every `fab …` and `inv …` of a page's text, in its blocks and within backticks, as words."""
    lines = [
        line.strip().removeprefix("$ ")
        for language, block in FENCE.findall(text)
        if language in ("", "console")
        for line in block.replace("\\\n", " ").splitlines()
    ]
    lines += INLINE.findall(FENCE.sub("", text))
    lines = [line for line in lines if OURS.search(line)]
    return [words for line in lines for words in _split(line) if words[0] in ("fab", "inv")]


def _split(line: str) -> list[list[str]]:
    """The commands of one line of shell: what stands between pipes and redirections."""
    lexer = shlex.shlex(line, posix=True, punctuation_chars="|&;<>()")
    lexer.whitespace_split, lexer.commenters = True, ""
    found: list[list[str]] = [[]]
    for word in lexer:
        if word == "#":
            break
        if word in APART:
            found.append([])
        else:
            found[-1].append(word)
    return [words for words in found if words]


def refusal(words: list[str]) -> str:
    """Why `fab` or `inv` itself would not begin with these words; empty when it would.

    A name alone (`fab deploy.resume`, `fab db.…`) stands for tasks: only whether there are any counts.
    """
    from invoke.exceptions import ParseError

    program, *rest = words
    if rest[1:] == ["--help"]:  # taken for help by what arguments.py sees of a running program
        rest = rest[:1]
    if len(rest) == 1 and not rest[0].startswith("-"):
        stem, dots, _ = rest[0].partition("…")
        known = [
            name for name in _names(program) if name == stem or (dots and name.startswith(stem))
        ]
        return "" if known else f"there is no {rest[0]}"
    if len(rest) > 1 and rest[0] == "-H":  # fab's own, read before the task is: see selector.py
        rest = [*rest[2:], "--on", rest[1]]
    try:
        calls = _parser(program).parse_argv([_example(word) for word in rest])
    except ParseError as error:
        return str(error)
    tasks = [call.name for call in calls if call.name]
    if program == "fab" and len(tasks) > 1:
        return f"{len(tasks)} tasks on one command line: {', '.join(tasks)}"
    return "; ".join(filter(None, (_lacks(call) for call in calls)))


def _example(word: str) -> str:
    """A number in place of what stands for one: flags that take numbers refuse anything else."""
    return "1" if PLACEHOLDER.fullmatch(word) else word


def _lacks(call: Any) -> str:
    given = {name for name, argument in call.args.items() if argument.value}
    if call.name in WHERE and "on" not in given:
        return f"{call.name} without --on"
    if call.name in WHICH and not given & {"release", "plan", "help"}:
        return f"{call.name} without --release"
    return ""


@functools.cache
def _parser(program: str) -> Any:
    from fabric.main import program as fab
    from invoke.main import program as inv
    from invoke.parser.context import ParserContext
    from invoke.parser.parser import Parser

    known = fab if program == "fab" else inv
    core = ParserContext(args=known.core_args() + known.task_args())
    # A copy, since invoke takes each flag's help text out of the task while it makes its contexts.
    return Parser(initial=core, contexts=copy.deepcopy(_namespace(program)).to_contexts())


def _names(program: str) -> set[str]:
    return {
        name for task, others in _namespace(program).task_names.items() for name in (task, *others)
    }


def _namespace(program: str) -> Any:
    return importlib.import_module({"fab": "fabfile", "inv": "tasks"}[program]).namespace
