"""Building a release of a tiny app, with the real zstd and ssh-keygen and without a network."""

from __future__ import annotations

import json
import os
import subprocess
import tarfile
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from backline.errors import BacklineError
from backline.release import build as builder
from backline.release import signing, store, wheelhouse
from backline.release.build import Built
from backline.release.manifest import AppManifest
from backline.transport import local

MANIFEST = """\
name = "tiny"
version = "0.9"
python = "3.11"
exclude = ["tests", "*.md"]

[processes.web]
kind = "http"
hosts = "streaming"
command = ["{venv}/bin/python", "-m", "http.server"]
health = { path = "/" }
"""


class Clock:
    """A clock that moves only when somebody sleeps."""

    def __init__(self, now: float = 1_800_000_000.25) -> None:
        self.now = now
        self.slept: list[float] = []

    def time(self) -> float:
        return self.now

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds

    def wait(self, event: threading.Event, seconds: float) -> bool:
        return event.wait(seconds)


@pytest.fixture(autouse=True)
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("BACKLINE_ROOT", str(tmp_path / "root"))
    monkeypatch.delenv("BACKLINE_SIGNING_KEY", raising=False)
    return tmp_path / "root"


@pytest.fixture
def app(tmp_path: Path) -> Path:
    folder = tmp_path / "app"
    (folder / "tests").mkdir(parents=True)
    (folder / "backline.toml").write_text(MANIFEST)
    (folder / "requirements.lock").write_text("# nothing\n")
    (folder / "main.py").write_text("print('hello')\n")
    (folder / "run.sh").write_text("#!/bin/sh\n")
    (folder / "run.sh").chmod(0o750)
    (folder / "README.md").write_text("not shipped\n")
    (folder / "tests" / "test_main.py").write_text("not shipped\n")
    return folder


Build = Callable[..., Built]


@pytest.fixture
def build(app: Path, tmp_path: Path) -> Build:
    def run(
        clock: Clock | None = None, say: Callable[[str], None] = print, **options: str
    ) -> Built:
        key, _ = signing.signing_key()
        return builder.build(
            app, tmp_path / "dist", key=key, clock=clock or Clock(), say=say, **options
        )

    return run


def git(folder: Path, *words: str) -> None:
    identity = ["-c", "user.name=t", "-c", "user.email=t@example.org"]
    subprocess.run(["git", "-C", str(folder), *identity, *words], check=True, capture_output=True)


def names(built: Built) -> list[str]:
    unpacked = subprocess.run(["zstd", "-dcq", built.archive], capture_output=True, check=True)
    path = built.archive.with_suffix(".check")
    path.write_bytes(unpacked.stdout)
    with tarfile.open(path) as tar:
        members = tar.getmembers()
    path.unlink()
    assert all((m.uid, m.gid, m.mtime) == (0, 0, members[0].mtime) for m in members)
    assert {m.mode for m in members} <= {0o644, 0o755}
    return [member.name for member in members]


def test_what_is_in_a_release(build: Build, tmp_path: Path) -> None:
    built = build()
    expected = ["app/backline.toml", "app/main.py", "app/requirements.lock", "app/run.sh"]
    assert names(built) == expected == list(built.release.files)
    assert built.release.files["app/run.sh"].mode == "0755"
    assert built.release.id.startswith("20270115T080000Z-")
    assert (built.release.version, built.release.commit, built.release.app) == ("0.9", None, "tiny")
    assert sorted(path.name for path in (tmp_path / "dist").iterdir()) == sorted(
        f"{built.release.id}{suffix}"
        for suffix in (".tar.zst", ".release.json", ".release.json.sig")
    )


def test_the_same_files_make_the_same_bytes(build: Build, app: Path) -> None:
    first = build()
    os.utime(app / "main.py", (1, 1))
    second = build(Clock(1_900_000_000))
    assert first.release.archive == second.release.archive
    assert first.release.id[-7:] == second.release.id[-7:]
    (app / "main.py").write_text("print('bye')\n")
    assert build(Clock(1_950_000_000)).release.id[-7:] != first.release.id[-7:]


def test_two_builds_in_one_second_get_two_names(build: Build) -> None:
    clock = Clock()
    first, second = build(clock), build(clock)
    assert first.release.id != second.release.id
    assert clock.slept == [0.75]


def test_a_build_at_the_same_moment_keeps_its_second(build: Build, tmp_path: Path) -> None:
    other = tmp_path / "dist" / ".building-20270115T080000Z"
    other.mkdir(parents=True)
    (other / "pid").write_text(str(os.getpid()))
    assert build().release.id.startswith("20270115T080001Z-")
    (other / "pid").write_text("4194304999")  # nobody
    assert build(Clock(1_900_000_000))
    assert not other.exists()


def test_git_decides_what_is_shipped(build: Build, app: Path) -> None:
    git(app, "init", "-q")
    git(app, "add", "-A")
    git(app, "commit", "-q", "-m", "one")
    (app / "loose.py").write_text("")
    said: list[str] = []
    built = build(say=said.append)
    assert "app/loose.py" not in built.release.files
    assert "loose.py" in said[0]
    assert not built.release.dirty
    assert built.release.commit and built.release.id.endswith(built.release.commit[:7])
    (app / "main.py").write_text("changed\n")
    dirty = build(Clock(1_900_000_000))
    assert dirty.release.dirty and not dirty.release.id.endswith(built.release.commit[:7])


def test_include_adds_what_git_ignores(build: Build, app: Path) -> None:
    (app / ".gitignore").write_text("static/\n")
    (app / "static").mkdir()
    (app / "static" / "site.css").write_text("x")
    git(app, "init", "-q")
    git(app, "add", "-A")
    git(app, "commit", "-q", "-m", "one")
    assert "app/static/site.css" not in build().release.files
    (app / "backline.toml").write_text(MANIFEST.replace("exclude", 'include = ["static"]\nexclude'))
    assert "app/static/site.css" in build(Clock(1_900_000_000)).release.files


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda app: (app / "requirements.lock").unlink(), "requirements.lock is missing"),
        (lambda app: (app / "main.py").unlink() or (app / "main.py").symlink_to("/etc/hosts"),
         "outside of the app's folder"),
        (lambda app: (app / "backline.toml").write_text('include = ["no/*"]\n' + MANIFEST),
         "matches no file"),
    ],
)  # fmt: skip
def test_an_app_that_cannot_be_packed_leaves_nothing(
    build: Build, app: Path, tmp_path: Path, change: Callable[[Path], object], says: str
) -> None:
    change(app)
    with pytest.raises(BacklineError, match=says):
        build()
    assert not list((tmp_path / "dist").glob("*"))


@pytest.mark.parametrize(
    ("program", "script", "says"),
    [
        ("zstd", "cat >/dev/null; echo 'No space left on device' >&2; exit 1", "No space left"),
        ("zstd", "exit 1", "zstd could not write"),
        ("ssh-keygen", "echo 'no key' >&2; exit 255", "could not sign.*no key"),
    ],
)
def test_a_program_that_fails_leaves_nothing(
    build: Build,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    program: str,
    script: str,
    says: str,
) -> None:
    signing.signing_key()
    fake = tmp_path / "bin" / program
    fake.parent.mkdir()
    fake.write_text(f"#!/bin/sh\n{script}\n")
    fake.chmod(0o755)
    monkeypatch.setenv("PATH", f"{fake.parent}:{os.environ['PATH']}")
    with pytest.raises(BacklineError, match=says):
        build()
    assert not list((tmp_path / "dist").iterdir())


def test_a_machine_without_zstd_is_told_what_to_install(
    build: Build, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    signing.signing_key()
    bare = tmp_path / "bin"
    bare.mkdir()
    monkeypatch.setenv("PATH", str(bare))
    with pytest.raises(BacklineError) as raised:
        build()
    assert "'zstd'" in raised.value.message and "apt-get install zstd" in raised.value.hint
    assert not list((tmp_path / "dist").iterdir())


def test_ctrl_c_leaves_nothing(
    build: Build, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(path: Path, key: Path) -> Path:
        raise KeyboardInterrupt

    monkeypatch.setattr(builder.signing, "sign", interrupt)
    with pytest.raises(KeyboardInterrupt):
        build()
    assert not list((tmp_path / "dist").iterdir())


def test_a_release_is_found_again_and_verified(build: Build, tmp_path: Path) -> None:
    built = build(version="1.2.3")
    stored = store.load(tmp_path / "dist", "latest")
    assert stored.release == built.release and stored.release.version == "1.2.3"
    key, _ = signing.signing_key()
    store.verify(stored, [signing.signer_line(key)])


def test_what_was_changed_after_signing_is_refused(build: Build, tmp_path: Path) -> None:
    key, made = signing.signing_key()
    assert made
    trusted = [signing.signer_line(key)]
    stored = store.load(tmp_path / "dist", build().release.id)
    stored.archive.write_bytes(stored.archive.read_bytes()[:-1] + b"?")
    with pytest.raises(BacklineError, match="not the archive that was signed") as raised:
        store.verify(stored, trusted)
    assert raised.value.exit_code == 6
    document = json.loads(stored.document.read_text())
    document["version"] = "evil"
    stored.document.write_text(json.dumps(document))
    with pytest.raises(BacklineError, match="signature of .* is not good"):
        store.verify(stored, trusted)
    stored.signature.unlink()
    with pytest.raises(BacklineError, match="is missing"):
        store.verify(stored, trusted)


def test_a_signer_that_is_not_trusted_is_refused(build: Build, tmp_path: Path) -> None:
    stored = store.load(tmp_path / "dist", build().release.id)
    local.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(tmp_path / "other")])
    with pytest.raises(BacklineError, match="is not good"):
        store.verify(stored, [signing.signer_line(tmp_path / "other")])


def test_unknown_and_damaged_releases_are_named(build: Build, tmp_path: Path) -> None:
    identity = build().release.id
    with pytest.raises(BacklineError) as raised:
        store.load(tmp_path / "dist", "20200101T000000Z-abcdef0")
    assert identity in raised.value.hint
    document = tmp_path / "dist" / f"{identity}.release.json"
    document.write_text(document.read_text()[:-30])
    with pytest.raises(BacklineError, match="is damaged"):
        store.load(tmp_path / "dist", identity)


LOCKED = "idna==3.7 --hash=sha256:00\n"


def manifest() -> AppManifest:
    return AppManifest.model_validate(
        {
            "name": "tiny",
            "python": "3.11",
            "processes": {"w": {"kind": "worker", "hosts": "w", "command": ["x"]}},
        }
    )


def test_wheels_are_fetched_once_for_the_hosts(
    app: Path, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[list[str]] = []

    def pip(argv: list[str], **options: object) -> local.Done:
        calls.append(argv)
        target = Path(argv[argv.index("--dest") + 1])
        (target / "idna-3.7-py3-none-any.whl").write_bytes(b"wheel")
        return local.Done(0, "", "")

    monkeypatch.setattr(wheelhouse.local, "run", pip)
    (app / "requirements.lock").write_text(LOCKED)
    first = wheelhouse.fetch(app, manifest())
    assert first and [path.name for path in first.iterdir()] == ["idna-3.7-py3-none-any.whl"]
    assert wheelhouse.fetch(app, manifest()) == first
    assert len(calls) == 1
    assert {"--require-hashes", "--no-deps", "--only-binary=:all:"} <= set(calls[0])
    assert "manylinux_2_36_x86_64" in calls[0] and "manylinux_2_37_x86_64" not in calls[0]
    (app / "requirements.lock").write_text(LOCKED + "# changed\n")
    assert wheelhouse.fetch(app, manifest()) != first


@pytest.mark.parametrize(
    ("said", "hint"),
    [
        ("ERROR: THESE PACKAGES DO NOT MATCH THE HASHES", "generate-hashes"),
        ("ERROR: No matching distribution found for x==1", "glibc 2.36"),
        ("No module named pip", "uv pip install pip"),
        ("Connection refused", "reachable"),
    ],
)
def test_when_pip_fails_nothing_is_cached(
    app: Path, root: Path, monkeypatch: pytest.MonkeyPatch, said: str, hint: str
) -> None:
    monkeypatch.setattr(wheelhouse.local, "run", lambda *_, **__: local.Done(1, "", said))
    (app / "requirements.lock").write_text(LOCKED)
    with pytest.raises(BacklineError) as raised:
        wheelhouse.fetch(app, manifest())
    assert said in raised.value.state and hint in raised.value.hint
    assert not list((root / ".cache" / "wheelhouse").iterdir())
