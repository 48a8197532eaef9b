"""The broken releases are broken in the way they say, and in no other."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from backline.release import manifest
from backline.release.collect import collect
from backline.tasks.steps import ROOT
from tests import releases

PYTHON = ROOT / ".cache" / "jukebox-venv" / "bin" / "python"
ASK = """
import json, os, sys, time
os.environ["DJANGO_SETTINGS_MODULE"] = "tests.settings"
import django; django.setup()
from jukebox import health; health.CHECKS.clear()
if len(sys.argv) > 1:
    from jukebox import fault
    setattr(fault, sys.argv[1], float(sys.argv[2]))
from django.test import Client
client = Client(raise_request_exception=False, headers={"host": "jukebox.example"})
found = {}
for path in ("/sign-in/", "/readyz", "/version", "/healthz"):
    began = time.monotonic()
    answer = client.get(path)
    seconds = time.monotonic() - began
    found[path] = [answer.status_code, answer["X-Release"] != "", round(seconds, 1)]
print(json.dumps(found))
"""


def ask(folder: Path, *constant: str) -> dict[str, Any]:
    """What the pages of the release in `folder` answer: status, X-Release, seconds."""
    if not PYTHON.exists():
        pytest.skip("`inv test.jukebox` makes the sample application's environment")
    done = subprocess.run(
        [PYTHON, "-c", ASK, *constant], cwd=folder, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "jukebox"


@pytest.mark.parametrize("kind", releases.KINDS)
def test_each_is_still_an_application_that_can_be_built(kind: str, folder: Path) -> None:
    releases.make(kind, folder)
    source = collect(folder, manifest.load(folder))
    assert source.commit is None, "its ID comes from its content"
    names = {str(name) for name in source.files}
    assert {"manage.py", "jukebox/wsgi.py"} <= names
    for name in names:
        if name.endswith(".py"):
            compile((folder / name).read_text(), name, "exec")


@pytest.mark.parametrize(("kind", "page", "ready"), [("errors", 500, 200), ("unready", 200, 503)])
def test_pages_or_readiness_are_broken(kind: str, page: int, ready: int, folder: Path) -> None:
    releases.make(kind, folder)
    found = ask(folder)
    assert [found[path][0] for path in found] == [page, ready, 200, 200]
    assert all(entry[1] for entry in found.values()), "bad answers name their release, too"


@pytest.mark.parametrize(
    ("kind", "constant"), [("slow", "SLOW_SECONDS"), ("hangs", "HANGS_SECONDS")]
)
def test_pages_take_longer_and_health_does_not(kind: str, constant: str, folder: Path) -> None:
    releases.make(kind, folder)
    found = ask(folder, constant, "0.6")
    assert found["/sign-in/"][0] == 200 and found["/sign-in/"][2] >= 0.6
    assert all(found[path][2] < 0.6 for path in ("/readyz", "/version", "/healthz"))


def test_one_goes_sour_after_a_while(folder: Path) -> None:
    releases.make("sours", folder)
    assert [entry[0] for entry in ask(folder).values()] == [200, 200, 200, 200]
    later = ask(folder, "SOURS_AFTER_SECONDS", "0")
    assert [entry[0] for entry in later.values()] == [500, 503, 200, 200]


def test_one_spoils_when_it_is_told_to(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    releases.make("spoils", folder)
    monkeypatch.setenv("HOME", str(folder))
    assert [entry[0] for entry in ask(folder).values()] == [200, 200, 200, 200]
    (folder / "spoiled").touch()
    assert [entry[0] for entry in ask(folder).values()] == [500, 503, 200, 200]


def run_wsgi(folder: Path, more: str = "") -> subprocess.CompletedProcess[str]:
    if not PYTHON.exists():
        pytest.skip("`inv test.jukebox` makes the sample application's environment")
    code = f"import tests.settings, jukebox.wsgi\n{more}"
    return subprocess.run(
        [PYTHON, "-c", code], cwd=folder, capture_output=True, text=True, timeout=60, check=False
    )


def test_one_does_not_start(folder: Path) -> None:
    releases.make("crashes", folder)
    done = run_wsgi(folder)
    assert done.returncode == 1 and "on purpose" in done.stderr
    assert ask(folder)["/readyz"][0] == 200, "only what gunicorn serves crashes"


def test_one_leaks_in_its_children_and_ends_itself(folder: Path) -> None:
    releases.make("leaks", folder)
    fork = (
        "import os, time, resource\n"
        "from jukebox import fault\n"
        "fault.MOST_MEGABYTES, fault.MEGABYTES_PER_SECOND = 60, 600\n"
        "child = os.fork()\n"
        "if not child: time.sleep(20); os._exit(0)\n"
        "code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])\n"
        "used = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024\n"
        # Not ru_maxrss: that of a process begins with what ran before it under its number, pytest.
        "own = int(open('/proc/self/statm').read().split()[1]) * resource.getpagesize() / 2**20\n"
        "print(code, used > 60, own < used)\n"
    )
    done = run_wsgi(folder, fork)
    assert done.stdout.split() == ["9", "True", "True"], done.stderr[-2000:]


def test_ballast_is_the_same_bytes_every_time(tmp_path: Path) -> None:
    for name in ("a", "b"):
        releases.make_fat(2, tmp_path / name)
    first, second = ((tmp_path / name / releases.BALLAST).read_bytes() for name in ("a", "b"))
    assert first == second and len(first) == 2_000_000
    names = collect(tmp_path / "a", manifest.load(tmp_path / "a")).files
    assert releases.BALLAST in {str(name) for name in names}


def test_a_changed_line_is_one_line(folder: Path, tmp_path: Path) -> None:
    releases.make("line", folder)
    releases.copy(tmp_path / "as-it-is")
    done = subprocess.run(
        ["diff", "-r", str(tmp_path / "as-it-is"), str(folder)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert sum(line.startswith(">") for line in done.stdout.splitlines()) == 1
