"""The line that is typed into `fab shell`."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from backline.inventory import Environment

LINES = 2000
"""So many are kept."""


class Prompt:
    """The terminal's line, with history (kept per environment) and completion. As in other shells a line
    that begins with a space is not kept."""

    def __init__(self, environment: Environment) -> None:
        self._hosts = list(environment.hosts)
        self._groups = list(environment.groups)
        self._history = _history(environment.name)
        self._found: list[str] = []
        with suppress(ImportError):
            import readline

            readline.set_completer_delims(" \t\n,:&!@")
            readline.set_completer(self._complete)
            readline.parse_and_bind("tab: complete")
            readline.set_history_length(LINES)
            readline.set_auto_history(False)
            with suppress(OSError):
                readline.read_history_file(self._history)

    def ask(self, prompt: str) -> str:
        """The next line. Raises EOFError at the end, KeyboardInterrupt for Ctrl-C."""
        if not sys.stdout.isatty():  # it is data, and would have the prompt in it
            print(prompt, end="", file=sys.stderr, flush=True)
            prompt = ""
        text = input(prompt)
        if text.strip() and not text.startswith(" "):
            self._keep(text)
        return text

    def _keep(self, text: str) -> None:
        """Adds a line to the history: to the file's end, since another shell may write there as well."""
        with suppress(ImportError, OSError):
            import readline

            readline.add_history(text)
            self._history.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._history.touch(mode=0o600)
            readline.append_history_file(1, self._history)

    def _complete(self, text: str, number: int) -> str | None:
        import readline

        from backline.operations.adhoc import line

        if number == 0:
            before = readline.get_line_buffer()[: readline.get_endidx()]
            # readline wants what takes the place of its own word, which begins after a delimiter.
            begin = readline.get_begidx()
            if before.startswith("!include "):
                self._found = list(_files(text))
            else:
                found = line.completions(before, self._hosts, self._groups)
                self._found = [word.removeprefix("!") if begin else word for word in found]
        return self._found[number] if number < len(self._found) else None


def _history(env: str) -> Path:
    from backline import places

    return places.records(env) / "shell_history"


def _files(begin: str) -> Iterator[str]:
    path = Path(begin).expanduser()
    folder, stem = (path, "") if begin.endswith("/") or not begin else (path.parent, path.name)
    with suppress(OSError):
        for entry in sorted(folder.iterdir()):
            if entry.name.startswith(stem):
                yield f"{entry}/" if entry.is_dir() else str(entry)
