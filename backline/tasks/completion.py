"""Completion for the shells that people type `fab` into."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path

from invoke.collection import Collection
from invoke.context import Context

from backline.tasks.operator import operation

FOLDER = Path(__file__).parents[1] / "completion"


@operation()
def bash(c: Context) -> None:
    """Print what makes bash complete tasks, flags, hosts, groups, environments, releases, runs.

    Examples:
        fab completion.bash >> ~/.bashrc
        fab completion.bash > ~/.local/share/bash-completion/completions/fab
    """
    print(script("bash"), end="")


@operation()
def zsh(c: Context) -> None:
    """Print what makes zsh complete tasks, flags, hosts, groups, environments, releases, runs.

    Examples:
        fab completion.zsh >> ~/.zshrc
    """
    print(script("zsh"), end="")


@operation()
def fish(c: Context) -> None:
    """Print what makes fish complete tasks, flags, hosts, groups, environments, releases, runs.

    Examples:
        fab completion.fish > ~/.config/fish/completions/fab.fish
    """
    print(script("fish"), end="")


def script(shell: str) -> str:
    """The completion script of a shell, for this checkout; what it will ask is made now."""
    from backline.completion import cache

    cache.write()
    text = (FOLDER / "scripts" / f"fab.{shell}").read_text(encoding="utf-8")
    program = shlex.quote(str(FOLDER / "answer.py"))
    return text.replace("@PYTHON@", shlex.quote(sys.executable)).replace("@PROGRAM@", program)


collection = Collection("completion")
for task in (bash, zsh, fish):
    collection.add_task(task)
