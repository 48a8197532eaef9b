"""The archive of wheels that a database host installs Patroni from."""

from __future__ import annotations

import hashlib
import tarfile
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

Load = Callable[[str], ModuleType]
PATH = "database/files/make_wheelhouse.py"
LOCK = Path(__file__).parents[3] / "roles/database/files/patroni-requirements.lock"


def test_every_wheel_is_pinned_by_its_digest_and_the_archive_is_reproducible(
    load: Load, tmp_path: Path
) -> None:
    module = load(PATH)
    wheels = tmp_path / "wheels"
    wheels.mkdir()
    (wheels / "ydiff-1.4.2-py3-none-any.whl").write_bytes(b"wheel")
    module.pin(wheels)
    module.pack(wheels, tmp_path / "one.tar")
    module.pack(wheels, tmp_path / "two.tar")
    assert (tmp_path / "one.tar").read_bytes() == (tmp_path / "two.tar").read_bytes()
    with tarfile.open(tmp_path / "one.tar") as tar:
        pins = tar.extractfile("requirements.txt")
        assert pins is not None
        digest = hashlib.sha256(b"wheel").hexdigest()
        assert pins.read().decode() == f"ydiff==1.4.2 --hash=sha256:{digest}\n"


def test_a_wheel_for_this_machine_only_is_refused(
    load: Load, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = load(PATH)
    (tmp_path / "native-1.0.tar.gz").write_bytes(b"sources")

    def build(*_arguments: str) -> None:
        (tmp_path / "native-1.0-cp311-cp311-linux_x86_64.whl").write_bytes(b"")

    monkeypatch.setattr(module, "run_pip", build)
    with pytest.raises(module.WheelhouseError, match="pin a version that has wheels"):
        module.build_sources(tmp_path)


def test_nothing_is_left_when_pip_fails(
    load: Load, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    archive = tmp_path / "cache" / "wheels.tar"
    missing = str(tmp_path / "no.lock")
    code = load(PATH).main([missing, str(archive), "--python=3.11", "--machine=x86_64"])
    assert code == 1 and "pip download failed" in capsys.readouterr().err
    assert list(archive.parent.iterdir()) == []


def test_patroni_is_locked_at_a_version_without_the_known_split_brain_bugs() -> None:
    text = LOCK.read_text(encoding="utf-8")
    (pinned,) = (line for line in text.splitlines() if line.startswith("patroni=="))
    version = pinned.split("==")[1].split()[0]
    assert tuple(map(int, version.split(".")[:2])) >= (4, 1)
    assert "://" not in text, "a lock names no registry"
