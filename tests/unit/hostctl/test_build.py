"""The zipapp: the same bytes from the same sources, and a program that runs on its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import pytest

from backline import hostctl_build


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("zipapp") / "hostctl"
    hostctl_build.write(out)
    return out


def test_the_same_sources_give_the_same_bytes(tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    copy.mkdir()
    for path in sorted(hostctl_build.SOURCE.glob("*.py"), reverse=True):
        (copy / path.name).write_bytes(path.read_bytes())
        os.utime(copy / path.name, (1, 1))
        (copy / path.name).chmod(0o600)
    (copy / "__pycache__").mkdir()
    assert hostctl_build.build(copy) == hostctl_build.build()


def test_another_source_gives_other_bytes(tmp_path: Path) -> None:
    (tmp_path / "cli.py").write_text("x = 1\n")
    assert hostctl_build.build(tmp_path) != hostctl_build.build()


def test_building_again_changes_nothing(tmp_path: Path) -> None:
    out = tmp_path / "new" / "hostctl"
    argv = [sys.executable, "-m", "backline.hostctl_build", str(out)]
    root = Path(hostctl_build.__file__).parent.parent
    answers = []
    for options in (["--check"], [], [], ["--check"]):
        ended = subprocess.run([*argv, *options], cwd=root, capture_output=True, check=True)
        answers.append(json.loads(ended.stdout))
    assert [answer["changed"] for answer in answers] == [True, True, False, False]
    assert {answer["sha256"] for answer in answers} == {answers[0]["sha256"]}
    assert out.stat().st_mode & 0o777 == 0o755
    assert [path.name for path in out.parent.iterdir()] == ["hostctl"]


def test_it_runs_alone_and_isolated(program: Path, tmp_path: Path) -> None:
    argv = [sys.executable, "-I", "-S", str(program)]
    ended = subprocess.run(
        [*argv, "facts"], input=b"{}", cwd=tmp_path, env={}, capture_output=True, check=False
    )
    answer = json.loads(ended.stdout)
    assert (ended.returncode, answer["ok"], answer["protocol"]) == (0, True, 2)
    assert len(answer["hostctl_sha256"]) == 64
    version = subprocess.run([*argv, "--version"], capture_output=True, text=True, check=True)
    assert version.stdout.startswith("hostctl ")
    ended = subprocess.run([*argv, "lease"], input=b"nonsense", capture_output=True, check=False)
    assert ended.returncode == 2
    assert json.loads(ended.stdout)["error"]["code"] == "bad_json"
    assert b"not JSON" in ended.stderr


def test_it_imports_nothing_but_itself_and_the_standard_library() -> None:
    import ast

    for path in hostctl_build.SOURCE.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(), feature_version=(3, 9))):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom) and node.level == 0:
                names = [node.module or ""]
            for name in names:
                assert name.split(".")[0] in sys.stdlib_module_names, f"{path.name}: {name}"


def test_units_start_quickly(program: Path) -> None:
    """`exec` is in the way of every start: it must not import what the verbs need."""
    argv = [sys.executable, "-IS", "-X", "importtime", str(program), "exec", "--app", "none"]
    best, loaded = 9.0, ""
    for _ in range(5):
        began = time.perf_counter()
        ended = subprocess.run(argv, capture_output=True, text=True, check=False)
        best, loaded = min(best, time.perf_counter() - began), ended.stderr
    assert ended.returncode == (6 if os.geteuid() == 0 else 2), loaded
    for module in ("subprocess", "tarfile", "hashlib", "http.client", "hostctl.cli"):
        assert f"| {module}\n" not in loaded.replace("|   ", "| "), module
    assert best < 0.25  # generous: it takes 0.05 s on an idle machine


def test_the_archive_is_a_plain_zip(program: Path) -> None:
    with zipfile.ZipFile(program) as archive:
        assert archive.testzip() is None
        assert "hostctl/cli.py" in archive.namelist() and "__main__.py" in archive.namelist()
