"""Publishing audio: what is sent, what a host refuses, and that no listener sees half a file."""

from __future__ import annotations

import hashlib
import importlib.util
import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

MEDIA = Path(__file__).parents[3] / "roles" / "media"
T = 1_767_225_600


def load(folder: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(
        f"media_{folder}", MEDIA / folder / "publish_folder.py"
    )
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


controller, host = load("action_plugins"), load("library")


class Ended(Exception):
    """What AnsibleModule does instead of returning."""


class Module:
    def __init__(self, **params: Any) -> None:
        self.params = params
        self.check_mode = False
        self.answer: dict[str, Any] = {}

    def exit_json(self, **answer: Any) -> None:
        self.answer = answer
        raise Ended

    fail_json = exit_json


def on_host(step: str, dest: Path, **params: Any) -> dict[str, Any]:
    module = Module(**params)
    with pytest.raises(Ended):
        getattr(host, step)(module, dest)
    return module.answer


def write(path: Path, content: str = "sound", changed: int = T) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content)
    os.utime(path, (changed, changed))


@pytest.fixture
def folders(tmp_path: Path) -> tuple[Path, Path]:
    write(tmp_path / "source" / "album" / "a.wav")
    write(tmp_path / "source" / "b.wav", "other")
    (tmp_path / "dest").mkdir()
    return tmp_path / "source", tmp_path / "dest"


def publish(source: Path, dest: Path, tmp_path: Path, **more: Any) -> list[str]:
    """What the action plugin does, with `media_replace`. Returns the paths that were sent."""
    files = controller.scan(source, [])
    found = on_host("compare", dest, files=files, purge=False, **more)
    digests = controller.checksums(source, found["doubtful"])
    same = on_host("confirm", dest, files=files, digests=digests)["same"]
    send = found["missing"] + found["other"] + [n for n in found["doubtful"] if n not in same]
    if send:
        digests = controller.pack(source, send, str(tmp_path / "files.tar"))
        on_host("unpack", dest, archive=str(tmp_path / "files.tar"), digests=digests)
    return list(send)


def test_only_what_differs_is_sent(folders: tuple[Path, Path], tmp_path: Path) -> None:
    source, dest = folders
    assert publish(source, dest, tmp_path) == ["b.wav", "album/a.wav"]
    assert publish(source, dest, tmp_path) == []
    write(source / "b.wav", "OTHER", changed=T + 1)
    assert publish(source, dest, tmp_path) == ["b.wav"]
    assert (dest / "b.wav").read_text() == "OTHER"
    assert (dest / "b.wav").stat().st_mtime == T + 1, "origins would disagree on the ETag"
    assert (dest / "b.wav").stat().st_mode & 0o777 == 0o644


def test_the_same_bytes_with_another_time_are_not_sent_again(
    folders: tuple[Path, Path], tmp_path: Path
) -> None:
    source, dest = folders
    publish(source, dest, tmp_path)
    write(source / "b.wav", "other", changed=T + 5)
    assert publish(source, dest, tmp_path) == []
    assert (dest / "b.wav").stat().st_mtime == T + 5, "origins would disagree on the ETag"


def test_the_manifest_tells_damage_from_health(folders: tuple[Path, Path], tmp_path: Path) -> None:
    source, dest = folders
    publish(source, dest, tmp_path)
    check = ["sha256sum", "--check", "--quiet", "--strict", ".manifest.sha256"]
    assert subprocess.run(check, cwd=dest, capture_output=True, check=False).returncode == 0
    write(dest / "album" / "a.wav", "s0und")  # same size and time: bits that rot
    assert subprocess.run(check, cwd=dest, capture_output=True, check=False).returncode == 1
    on_host("remove", dest, names=["album/a.wav"])
    assert (dest / ".manifest.sha256").read_text().count("\n") == 1
    assert not (dest / "album").exists()


def test_files_that_came_before_there_was_a_manifest_are_looked_into(
    folders: tuple[Path, Path], tmp_path: Path
) -> None:
    source, dest = folders
    publish(source, dest, tmp_path)
    (dest / ".manifest.sha256").unlink()
    assert publish(source, dest, tmp_path) == []
    assert (dest / ".manifest.sha256").read_text().count("\n") == 2


def test_a_name_that_no_manifest_can_hold_is_refused(folders: tuple[Path, Path]) -> None:
    _, dest = folders
    answer = on_host("compare", dest, files={"two\nlines.wav": [1, T]}, purge=False)
    assert "Nothing was sent" in answer["msg"]


def test_hidden_and_excluded_files_stay_home(folders: tuple[Path, Path]) -> None:
    source, _ = folders
    write(source / ".secret")
    write(source / ".git" / "config")
    write(source / "notes.json")
    assert set(controller.scan(source, ["*.json", "album/*"])) == {"b.wav"}


def test_purge_removes_what_the_source_has_not(folders: tuple[Path, Path], tmp_path: Path) -> None:
    source, dest = folders
    publish(source, dest, tmp_path)
    write(dest / "withdrawn.wav")
    files = controller.scan(source, [])
    assert on_host("compare", dest, files=files, purge=False)["unwanted"] == []
    assert on_host("compare", dest, files=files, purge=True)["unwanted"] == ["withdrawn.wav"]
    on_host("remove", dest, names=["withdrawn.wav"])
    assert not (dest / "withdrawn.wav").exists()


def test_damage_on_the_way_leaves_the_old_file(folders: tuple[Path, Path], tmp_path: Path) -> None:
    source, dest = folders
    publish(source, dest, tmp_path)
    write(source / "b.wav", "damaged", changed=T + 9)
    controller.pack(source, ["b.wav"], str(tmp_path / "files.tar"))
    module = Module(
        archive=str(tmp_path / "files.tar"),
        digests={"b.wav": hashlib.sha256(b"as it was sent").hexdigest()},
    )
    with pytest.raises(ValueError, match="not what was sent"):
        host.unpack(module, dest)
    assert (dest / "b.wav").read_text() == "other"
    assert sorted(path.name for path in dest.iterdir()) == [".manifest.sha256", "album", "b.wav"]


def test_an_archive_holds_what_was_announced_only(
    folders: tuple[Path, Path], tmp_path: Path
) -> None:
    source, dest = folders
    controller.pack(source, ["b.wav"], str(tmp_path / "files.tar"))
    with pytest.raises(ValueError, match="not a file that was announced"):
        host.unpack(Module(archive=str(tmp_path / "files.tar"), digests={}), dest)
    assert list(dest.iterdir()) == []


def test_a_disk_that_is_too_small_is_noticed_before_anything_is_sent(
    folders: tuple[Path, Path],
) -> None:
    _, dest = folders
    answer = on_host("compare", dest, files={"huge.wav": [1 << 60, T]}, purge=False)
    assert "do not fit" in answer["msg"] and "Nothing was sent" in answer["msg"]


def test_transfers_are_bounded() -> None:
    files = {name: (size, T) for name, size in (("a", 4), ("b", 4), ("c", 50), ("d", 1))}
    assert list(controller.batches(list(files), files, 10)) == [["a", "b"], ["c"], ["d"]]
