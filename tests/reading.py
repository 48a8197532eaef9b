"""Somebody with an emergency's page in hand, who types its commands on a fleet as they stand there."""

from __future__ import annotations

import functools
import shlex
import signal
import subprocess
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from backline.tasks.steps import ROOT, environment
from tests import documented, runbooks
from tests.live import BIN, Answer, run

LIMIT_S = 3600.0
WATCHED_S = 15.0
"""How long somebody watches a journal before they press Ctrl-C."""
WIDE = {"COLUMNS": "400"}
"""No table folds what a test looks for."""


def typed(words: Sequence[str], ends: tuple[int, ...] = (0,)) -> Answer:
    """Types a command; AssertionError unless it ends with one of `ends`. A rehearsal may find work (2)."""
    if "--follow" in words:
        return _watched(words)
    fast = words[0] == "ansible-playbook"
    answer = run(*words, expect=None, fast=fast, timeout=LIMIT_S, **WIDE)
    good = {*ends, 2} if "--check" in words else {*ends}
    said = f"{shlex.join(words)}\n{answer.out[-4000:]}\n{answer.err[-4000:]}"
    assert answer.code in good, f"ended with {answer.code}: {said}"
    return answer


def _watched(words: Sequence[str]) -> Answer:
    """A command that goes on until Ctrl-C, which it gets."""
    process = subprocess.Popen(
        [str(BIN / words[0]), *words[1:]],
        cwd=ROOT,
        env=environment(WIDE),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        out, err = process.communicate(timeout=WATCHED_S)
    except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=30)
    assert process.returncode == 0, f"{shlex.join(words)}\n{out[-2000:]}\n{err[-2000:]}"
    return Answer(process.returncode, out, err)


class Page:
    """The page of one emergency, and those of its parts that a test follows (see runbooks.chosen).

    `names`: what the page's words in capitals, and its examples, are here; a test adds to it as it
    learns them. `by_hand`: what is done in place of a command that no lab can run.
    """

    def __init__(self, name: str, parts: Sequence[str], names: Mapping[str, str]) -> None:
        path = runbooks.FOLDER / f"emergency-{name}.md"
        self.left = {part: list(runbooks.chosen(path, part)) for part in parts}
        self.names = dict(names)
        self.by_hand: dict[str, Callable[[], object]] = {}
        self._last = ""

    def next(self, part: str, ends: tuple[int, ...] = (0,), answer: int = 0) -> Answer:
        """Types the next command of a part. `answer`: what its question is answered with."""
        self._last = self.left[part].pop(0)
        return self._do(ends, answer)

    def rest(self, part: str, ends: tuple[int, ...] = (0,)) -> list[Answer]:
        """Types all of a part that has not been typed yet."""
        return [self.next(part, ends) for _ in range(len(self.left[part]))]

    def again(self, ends: tuple[int, ...] = (0,)) -> Answer:
        """Types the last command once more."""
        return self._do(ends, 0)

    def is_done(self) -> None:
        """AssertionError while a command of the parts has not been typed."""
        left = {part: commands for part, commands in self.left.items() if commands}
        assert not left, f"not followed to its end: {left}"

    def _do(self, ends: tuple[int, ...], answer: int) -> Answer:
        begin = runbooks.stand_in(self._last)
        if begin:
            self.by_hand[begin]()
            return Answer(0, "", "")
        words = documented.filled(self._last, self.names)
        return typed([*words, *(("--yes", str(answer)) if answer else ())], ends)


def follows(name: str, *parts: str) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """A test that is given `page`, and has to type every command of these parts of it.

    tests/unit/runbooks reads from this which commands are followed by no test.
    """

    def decorate(test: Callable[..., None]) -> Callable[..., None]:
        @functools.wraps(test)
        def followed(*words: Any, page: Page, **more: Any) -> None:
            test(*words, page=page, **more)
            page.is_done()

        followed.follows = (name, parts)  # type: ignore[attr-defined]
        return followed

    return decorate
