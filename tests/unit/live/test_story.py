"""A page that tells a story is read as steps, and a step that goes otherwise than told is noticed."""

from __future__ import annotations

import pytest

from tests import documented, story
from tests.fleet import test_night

PAGE = """# A night

Prose with `fab status` in it.

<!-- trouble: the web dies -->
<!-- exit 1 -->
```console
$ fab run 'uptime; id' --env lab \\
    --on all
stream1   up  3 days
error: 1 failed
```
<!-- holds: stream1 up 3 days | 1 failed -->
<!-- lacks: stream2 -->

<!-- full lab -->
<!-- exit any -->
```console
$ fab db.status --env lab
```
"""


def test_a_page_becomes_steps() -> None:
    first, second = story.read(PAGE)
    assert first.words == ["fab", "run", "uptime; id", "--env", "lab", "--on", "all"]
    assert (first.code, first.troubles, first.full) == (1, ["the web dies"], False)
    assert (first.holds, first.lacks) == (["stream1 up 3 days", "1 failed"], ["stream2"])
    assert second.full and second.code is None and not second.troubles


@pytest.mark.parametrize(
    ("code", "printed", "wrong"),
    [
        (1, "\x1b[31mstream1\x1b[0m  up   3 days\nerror: 1 failed of 2", []),
        (0, "stream1 up 3 days 1 failed", ["ended with 0"]),
        (1, "stream1 up 4 days 1 failed", ["does not say 'stream1 up 3 days'"]),
        (1, "stream1 up 3 days 1 failed stream2", ["says 'stream2'"]),
    ],
)
def test_a_step_says_what_is_not_as_told(code: int, printed: str, wrong: list[str]) -> None:
    assert story.read(PAGE)[0].wrong(code, printed) == wrong


@pytest.mark.parametrize(
    "page",
    [
        "<!-- exot 1 -->\n```console\n$ fab status\n```\n",
        "<!-- exit soon -->\n```console\n$ fab status\n```\n",
        "```console\n$ fab status\n$ fab lock\n```\n",
        "```console\nfab status\n```\n",
        "```console\n$ fab status\n```\n<!-- trouble: too late -->\n",
    ],
)
def test_a_page_that_would_be_read_otherwise_than_meant_is_refused(page: str) -> None:
    with pytest.raises(ValueError):
        story.read(page)


def test_the_night_shows_what_it_is_held_to_and_its_troubles_are_known() -> None:
    """What the test looks for stands on the page, so that readers look for it, too."""
    for step in test_night.STEPS:
        assert step.words[0] == "fab" and step.words.count("lab") == 1, step.words
        assert step.holds, f"{step.words}: nothing is looked for"
        for text in step.holds:
            assert story.flat(text) in story.flat(step.shown), f"{step.words}: {text!r}"
        for text in step.lacks:
            assert story.flat(text) not in story.flat(step.shown), f"{step.words}: {text!r}"
        assert documented.refusal(step.words) == ""
    told = [trouble for step in test_night.STEPS for trouble in step.troubles]
    assert sorted(told) == sorted(test_night.TROUBLES)


def test_the_night_uses_what_one_uses_at_night() -> None:
    typed = {step.words[1] for step in test_night.STEPS}
    assert typed >= {
        *("status", "logs", "run", "restart", "rollback", "db.status", "db.switchover"),
        *("reboot", "audit.show", "audit.verify"),
    }
