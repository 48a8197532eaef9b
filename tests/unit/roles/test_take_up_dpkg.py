"""What a run that was cut off in the middle of apt left, and who takes it up."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

PROGRAM = Path(__file__).parents[3] / "roles" / "base" / "files" / "take_up_dpkg.sh"
LEFT = "#!/bin/sh\nexit 101\n"


@pytest.fixture
def host(tmp_path: Path) -> Path:
    """Its `busy` file: dpkg is at work. What dpkg is told is in `told`."""
    fake(tmp_path, "pgrep", f"test -e {tmp_path}/busy")
    fake(tmp_path, "dpkg", f'test -e {tmp_path}/policy && echo "$@" >{tmp_path}/told')
    return tmp_path


def fake(folder: Path, name: str, script: str) -> None:
    (folder / name).write_text(f"#!/bin/sh\n{script}\n")
    (folder / name).chmod(0o755)


def take_up(host: Path, within: int = 5) -> subprocess.CompletedProcess[str]:
    variables = {"POLICY": str(host / "policy"), "WITHIN": str(within)}
    env = {**os.environ, **variables, "PATH": f"{host}:{os.environ['PATH']}"}
    return subprocess.run(["sh", PROGRAM], env=env, capture_output=True, text=True, check=False)


def test_packages_are_configured_before_their_daemons_may_start(host: Path) -> None:
    (host / "policy").write_text(LEFT)
    done = take_up(host)
    assert done.returncode == 0 and "start their daemons again" in done.stdout
    assert "--configure --pending" in (host / "told").read_text()
    assert not (host / "policy").exists()


def test_one_that_is_still_at_work_is_not_disturbed(host: Path) -> None:
    (host / "policy").write_text(LEFT)
    (host / "busy").touch()
    done = take_up(host, within=1)
    assert done.returncode == 1 and "still at work" in done.stderr
    assert (host / "policy").exists() and not (host / "told").exists()


def test_what_dpkg_cannot_do_leaves_daemons_alone(host: Path) -> None:
    (host / "policy").write_text(LEFT)
    fake(host, "dpkg", "exit 1")
    assert take_up(host).returncode != 0 and (host / "policy").exists()


@pytest.mark.parametrize("content", [None, "#!/bin/sh\n# ours\nexit 101\n"])
def test_nothing_of_ours_is_nothing_to_do(host: Path, content: str | None) -> None:
    if content:
        (host / "policy").write_text(content)
    done = take_up(host)
    assert (done.returncode, done.stdout) == (0, "") and not (host / "told").exists()
    assert (host / "policy").exists() == bool(content)
