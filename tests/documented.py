"""The commands that a page shows, as a reader would type them."""

from __future__ import annotations

import copy
import functools
import importlib
import re
import shlex
from typing import Any

from backline.tasks.steps import ROOT

FENCE = re.compile(r"^ *```(\w*)\n(.*?)^ *```", re.M | re.S)
OURS = re.compile(r"(?:^|[|;&(] *)(?:fab|inv) ")
INLINE = re.compile(r"`((?:fab|inv) [^`]+)`")
APART = {"|", "||", "&&", ";", "&", ">", ">>", "<", "(", ")", "$("}
PLACEHOLDER = re.compile(r"[A-Z][A-Z-]*")
"""What stands for something of the reader's own: ENV, HOST, N."""
WHERE = {"run", "shell", "restart", "reboot", "patch"}
"""Tasks that are refused without --on."""
WHICH = {"deploy", "deploy.start", "deploy.plan"}
"""Tasks that are refused without --release; but for a saved plan."""


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
    except (ParseError, ValueError) as error:
        return str(error)
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
