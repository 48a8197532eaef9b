"""Errors in backline.toml name the file, the line and the remedy."""

from __future__ import annotations

from pathlib import Path

import pytest

from backline.errors import BacklineError
from backline.release import manifest, toml_lines

GOOD = """\
name = "tiny"
python = "3.11"

[processes.web]
kind = "http"
hosts = "streaming"
command = [
  "{venv}/bin/gunicorn",  # not [closed
  "tiny:app",
]
stop_timeout = 20

[processes.web.health]
path = "/readyz"

[processes.worker]
kind = "worker"
hosts = "worker"
command = ["{venv}/bin/celery"]
health = { command = ["true"] }

[migrations]
expand = [["{venv}/bin/python", "manage.py", "migrate"]]
"""


def load(tmp_path: Path, text: str) -> manifest.AppManifest:
    (tmp_path / "backline.toml").write_text(text)
    return manifest.load(tmp_path)


def test_a_good_one(tmp_path: Path) -> None:
    found = load(tmp_path, GOOD)
    assert found.name == "tiny" and found.requirements == "requirements.lock"
    health = found.processes["web"].health
    assert health and health.as_release() == {"path": "/readyz", "status": 200, "timeout": 2.0}
    assert found.migrations.expand == [["{venv}/bin/python", "manage.py", "migrate"]]
    assert found.probe.paths == ["/"]


def test_what_an_answer_must_hold_travels_with_the_release(tmp_path: Path) -> None:
    asked = 'path = "/readyz"\ncontains = "ok"\nwithin = 0.5'
    health = load(tmp_path, GOOD.replace('path = "/readyz"', asked)).processes["web"].health
    assert health and health.as_release() == {
        "path": "/readyz", "status": 200, "timeout": 2.0, "contains": "ok", "within": 0.5
    }  # fmt: skip


def test_the_probes_paths_begin_with_a_slash(tmp_path: Path) -> None:
    found = load(tmp_path, GOOD + '[probe]\npaths = ["/", "/version?a=1"]\n')
    assert found.probe.paths == ["/", "/version?a=1"]
    for wrong in ('["version"]', '["/a b"]', '["/\\r\\nX: y"]', "[]", '"/"'):
        with pytest.raises(BacklineError, match=r"probe\.paths"):
            load(tmp_path, GOOD + f"[probe]\npaths = {wrong}\n")


@pytest.mark.parametrize(
    ("old", "new", "line", "says"),
    [
        ('name = "tiny"', 'name = "Tiny!"', 1, "name: string should match"),
        ('python = "3.11"', "python = 3.11", 2, "python: input should be a valid string, not 3.11"),
        ('python = "3.11"\n', "", 1, "'python' is missing: add it"),
        ('kind = "http"', 'kind = "htpp"', 5, "input should be 'http', 'worker' or 'singleton'"),
        ('"tiny:app",', "42,", 7, "processes.web.command.1: input should be a valid string"),
        ("stop_timeout = 20", "stop_timeout = 'soon'", 11, "processes.web.stop_timeout"),
        ("stop_timeout = 20", "stop_time = 20", 11, "unknown key 'processes.web.stop_time'"),
        ('path = "/readyz"', 'path = "readyz"', 14, "processes.web.health.path"),
        ('path = "/readyz"', 'path = "/readyz"\nwithin = -1', 15, "processes.web.health.within"),
        ('command = ["true"] }', 'command = ["true"], contains = "x" }', 20, "needs path"),
        ('[processes.web.health]\npath = "/readyz"\n', "", 4, "an http process needs a health"),
        ('{ command = ["true"] }', '{ path = "/" }', 16, "a worker has no socket to ask"),
        ('hosts = "worker"\n', "", 16, "'processes.worker.hosts' is missing"),
        (
            '[["{venv}/bin/python", "manage.py", "migrate"]]',
            '["migrate"]',
            23,
            "migrations.expand.0",
        ),
        ("[processes.web]", "[processes.web", 4, "not TOML"),
        ("stop_timeout = 20", "stop_timeout = 20\nstop_timeout = 3", 12, "not TOML"),
    ],
)
def test_errors_name_the_line(tmp_path: Path, old: str, new: str, line: int, says: str) -> None:
    assert old in GOOD
    with pytest.raises(BacklineError) as raised:
        load(tmp_path, GOOD.replace(old, new, 1))
    assert f"{tmp_path}/backline.toml:{line}: " in raised.value.message
    assert says in raised.value.message
    assert raised.value.state == "nothing was built"


def test_all_errors_are_told_at_once(tmp_path: Path) -> None:
    with pytest.raises(BacklineError) as raised:
        load(tmp_path, GOOD.replace('"tiny"', "3").replace("20", "0"))
    assert len(raised.value.message.splitlines()) == 2


def test_no_manifest_and_no_folder(tmp_path: Path) -> None:
    with pytest.raises(BacklineError, match=r"there is no backline\.toml in"):
        manifest.load(tmp_path)
    with pytest.raises(BacklineError, match="there is no folder"):
        manifest.load(tmp_path / "nowhere")


def test_lines_of_keys() -> None:
    text = "\n".join(
        [
            'a = """',
            "b = 1",
            '"""',
            "[t.'x y']  # table",
            "k = [1, [2,",
            " 3], '#]',",
            "]",
            'd.e = { f = "]" }',
            "g = 2",
        ]
    )
    assert toml_lines.lines(text) == {
        ("a",): 1,
        ("t", "x y"): 4,
        ("t", "x y", "k"): 5,
        ("t", "x y", "d", "e"): 8,
        ("t", "x y", "g"): 9,
    }
