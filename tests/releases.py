"""Releases of the sample application that are wrong in one known way, for tests of rollouts.

`build_kind("errors")` copies the application, breaks the copy, and builds it as anybody would. What
is broken are the pages; /healthz, /readyz and /version are as always, unless a kind says otherwise.
"""

from __future__ import annotations

import random
import shutil
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path

from backline.tasks.steps import ROOT
from tests.live import run

JUKEBOX = ROOT / "examples" / "jukebox"
#: The kinds that come to life, and then misbehave, by a middleware of their own.
FAULTS = Path(__file__).with_name("release_faults.py")
#: Threads in a web process whose pages take long: enough that /readyz never waits for them.
MANY = 1000
BALLAST = "ballast.bin"


def _replace(folder: Path, name: str, old: str, new: str) -> None:
    path = folder / name
    text = path.read_text(encoding="utf-8")
    assert text.count(old) == 1, f"{name} of the application changed: {old!r} is not there once"
    path.write_text(text.replace(old, new), encoding="utf-8")


def _misbehave(folder: Path, kind: str) -> None:
    shutil.copy(FAULTS, folder / "jukebox" / "fault.py")
    inner = '"jukebox.health.HealthMiddleware",'
    _replace(folder, "jukebox/settings.py", inner, f'"jukebox.fault.{kind}",\n    {inner}')
    if kind in ("hangs", "slow"):
        _replace(folder, "gunicorn.conf.py", "threads = 8", f"threads = {MANY}")


def _crash(folder: Path, kind: str) -> None:
    """Only the web: migrations run, and workers start."""
    with (folder / "jukebox" / "wsgi.py").open("a", encoding="utf-8") as file:
        file.write('\nraise SystemExit("this release crashes at its start, on purpose")\n')


def _leak(folder: Path, kind: str) -> None:
    """Each web process after its fork, since threads do not survive one."""
    shutil.copy(FAULTS, folder / "jukebox" / "fault.py")
    with (folder / "jukebox" / "wsgi.py").open("a", encoding="utf-8") as file:
        file.write(
            "\nfrom jukebox import fault  # noqa: E402\n"
            "os.register_at_fork(after_in_child=fault.leak)\n"
        )


def _change_a_line(folder: Path, kind: str) -> None:
    _replace(folder, "music/views.py", "RECENT = 50", "RECENT = 51")


def _add_jobs(folder: Path, kind: str) -> None:
    """A job that takes its time, and a process that may run only once; both say what they do."""
    shutil.copy(Path(__file__).with_name("release_jobs.py"), folder / "jukebox" / "jobs.py")
    with (folder / "music" / "tasks.py").open("a", encoding="utf-8") as file:
        file.write("\nfrom jukebox import jobs  # noqa: E402\n\njobs.declare(app)\n")
    with (folder / "backline.toml").open("a", encoding="utf-8") as file:
        file.write(
            '\n[processes.ticks]\nkind = "singleton"\nhosts = "worker"\nstop_timeout = 20\n'
            'command = ["{venv}/bin/python", "-m", "jukebox.jobs"]\n'
        )


KINDS: dict[str, Callable[[Path, str], None]] = {
    "errors": _misbehave,
    "hangs": _misbehave,
    "unready": _misbehave,
    "sours": _misbehave,
    "spoils": _misbehave,
    "slow": _misbehave,
    "crashes": _crash,
    "leaks": _leak,
    "line": _change_a_line,
    "jobs": _add_jobs,
}


def copy(folder: Path) -> None:
    """Puts the application as it is here, what git tracks, into a new `folder`."""
    argv = ["git", "ls-files", "-z", "--", "."]
    listed = subprocess.run(argv, cwd=JUKEBOX, capture_output=True, text=True, check=True)
    for name in filter(None, listed.stdout.split("\0")):
        target = folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(JUKEBOX / name, target)


def make(kind: str, folder: Path) -> None:
    """The application's files in a new `folder`, broken as `kind` says."""
    copy(folder)
    KINDS[kind](folder, kind)


def make_fat(megabytes: int, folder: Path) -> None:
    """The application with a file of so many MB that cannot be compressed; always the same bytes."""
    copy(folder)
    source = random.Random(42)
    with (folder / BALLAST).open("wb") as file:
        for _ in range(megabytes):
            file.write(source.randbytes(1_000_000))


def build_kind(kind: str) -> str:
    """Builds a release of `kind` (see KINDS) into dist/; its ID."""
    return _build(kind, lambda folder: make(kind, folder))


def build_fat(megabytes: int, *, line: bool = False) -> str:
    """Builds a release with `megabytes` of ballast, `line`: and one line changed; its ID."""

    def prepare(folder: Path) -> None:
        make_fat(megabytes, folder)
        if line:
            _change_a_line(folder, "line")

    return _build(f"fat-{megabytes}", prepare)


def _build(version: str, prepare: Callable[[Path], None]) -> str:
    with tempfile.TemporaryDirectory(prefix=f"jukebox-{version}-") as name:
        folder = Path(name) / "jukebox"
        folder.mkdir()
        prepare(folder)
        words = ("inv", "release.build", str(folder), "--version", version, "--json")
        return str(run(*words).last["id"])
