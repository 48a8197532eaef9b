"""The pieces that the tests of hostctl are made of."""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import os
import shutil
import socketserver
import subprocess
import sys
import tarfile
import tempfile
import threading
import zipfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any
from unittest import mock

from backline.hostctl import cli
from backline.hostctl.host import Completed, Host, run_command

R1, R2, R3 = (f"20261122T19050{n}Z-1a2b3c{n}" for n in (1, 2, 3))
PYTHON = f"{sys.version_info.major}.{sys.version_info.minor}"
WEB = {"kind": "http", "hosts": "streaming", "stop_timeout": 30}
PROCESSES: dict[str, Any] = {
    "web": {
        **WEB,
        "command": ["{venv}/bin/greet", "--bind", "unix:{socket}", "-w", "{workers}"],
        "health": {"path": "/readyz", "status": 200, "timeout": 2},
    },
    "worker": {
        "kind": "worker",
        "hosts": "worker",
        "command": ["{venv}/bin/work", "-Q", "{queues}"],
        "stop_timeout": 5,
        "health": None,
    },
    "beat": {"kind": "singleton", "hosts": "worker", "command": ["{venv}/bin/beat"]},
}


def make_key(path: Path) -> Path:
    """A new ed25519 key pair without a passphrase."""
    argv = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", path.name, "-f", str(path)]
    subprocess.run(argv, check=True)
    return path


def short_folder() -> Path:
    """A folder with a short name (socket paths), in memory where that is possible (fsync)."""
    memory = Path("/dev/shm")
    return Path(
        tempfile.mkdtemp(prefix="hc-", dir=memory if os.access(memory, os.W_OK) else "/tmp")
    )


class Clock:
    """A host's clocks: `boottime` moves with sleep and by hand, `wall` can be set anywhere."""

    def __init__(self) -> None:
        self.wall = 1_800_000_000.0
        self.boottime = 1000.0
        self.boot = "boot-1"

    def sleep(self, seconds: float) -> None:
        self.wall += seconds
        self.boottime += seconds

    def reboot(self) -> None:
        self.boottime, self.boot = 5.0, self.boot + "+"


class FakeSystemd:
    """systemctl, systemd-run and journalctl, playing instances; http ones answer on their socket.

    What was ordered is kept in a file too: a test that kills hostctl in a child process reads it.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self.units: dict[str, dict[str, Any]] = {}
        self.calls: list[list[str]] = []
        self.fails_to_start: set[str] = set()
        self.starts_after = 0  # polls until a started unit is active
        self.stops_after = 0
        self.answer: Callable[[str], int] = lambda path: 200
        self.next_pid = 100
        self.servers: dict[str, socketserver.BaseServer] = {}
        self.timers: dict[str, tuple[str, list[str]]] = {}  # name: (when, command)
        self.schedules = True  # False: systemd-run fails
        self.memory = root / "systemd.json"

    def remember(self) -> None:
        """Write down every unit and timer."""
        self.memory.write_text(json.dumps([self.units, self.timers]))

    def recall(self) -> None:
        """Become what a child that was killed left behind."""
        if self.memory.exists():
            self.units, timers = json.loads(self.memory.read_text())
            self.timers = {name: (when, argv) for name, (when, argv) in timers.items()}
        for name, unit in self.units.items():
            if unit["active"] == "active" and "-web@" in name and name not in self.servers:
                self._serve(name)

    def run(self, argv: Any, **options: Any) -> Completed:
        program, *arguments = argv
        if program == "systemctl":
            self.calls.append(list(argv))
            flags = [word for word in arguments if word.startswith("--")]
            verb, *names = [word for word in arguments if not word.startswith("--")]
            out = getattr(self, "_" + verb.replace("-", "_"))(names, flags)
            self.remember()
            return out if isinstance(out, Completed) else Completed(0, out or "", "")
        if program == "systemd-run":
            self.calls.append(list(argv))
            return self._schedule(list(argv))
        if program == "journalctl":
            return Completed(0, "Traceback: the worker died\n", "")
        if program == "sync":
            return Completed(0, "", "")  # the tests' folders need not survive a power cut
        return run_command(argv, **options)

    def unit(self, name: str) -> dict[str, Any]:
        fresh = {"active": "inactive", "sub": "dead", "pid": 0, "restarts": 0, "polls": 0}
        fresh["job"] = 0
        return self.units.setdefault(name, fresh)

    def _show(self, names: list[str], flags: list[str]) -> str:
        prefix, star, _ = names[0].partition("*")
        wanted = [n for n in self.units if n.startswith(prefix)] if star else names
        return "\n".join(self._block(name) for name in wanted)

    def _block(self, name: str) -> str:
        unit = self.unit(name)
        if unit["active"] in ("activating", "deactivating"):
            self._settle(name, unit)
        loaded = "not-found" if name.startswith("missing") else "loaded"
        return (
            f"Id={name}\nLoadState={loaded}\nActiveState={unit['active']}\n"
            f"SubState={unit['sub']}\nMainPID={unit['pid']}\nNRestarts={unit['restarts']}\n"
            f"Result=success\nActiveEnterTimestamp=@1800000000\n"
            + (f"Job={unit['job']}\n" if unit["job"] else "")
        )

    def _settle(self, name: str, unit: dict[str, Any]) -> None:
        unit["polls"] -= 1
        if unit["polls"] >= 0:
            return
        unit["job"] = 0
        if unit["active"] == "deactivating":
            unit.update(active="inactive", sub="dead", pid=0)
            self._unserve(name)
        elif name in self.fails_to_start:
            unit.update(active="failed", sub="failed", pid=0)
        else:
            self.next_pid += 1
            unit.update(active="active", sub="running", pid=self.next_pid)
            if "-web@" in name:
                self._serve(name)

    def _start(self, names: list[str], flags: list[str]) -> None:
        unit = self.unit(names[0])
        if unit["active"] != "active":
            unit.update(active="activating", sub="start", polls=self.starts_after, job=7)

    def _stop(self, names: list[str], flags: list[str]) -> None:
        if names[0].endswith(".timer"):
            self.timers.pop(names[0].removesuffix(".timer"), None)
            return
        unit = self.unit(names[0])
        if unit["active"] not in ("inactive", "failed"):
            unit.update(active="deactivating", sub="stop", polls=self.stops_after, job=8)

    def _list_units(self, names: list[str], flags: list[str]) -> str:
        assert "--state=failed" in flags
        failed = [name for name, unit in self.units.items() if unit["active"] == "failed"]
        return "".join(f"{name} loaded failed failed A unit\n" for name in failed)

    def _is_active(self, names: list[str], flags: list[str]) -> Completed:
        return Completed(0 if names[0].removesuffix(".timer") in self.timers else 3, "", "")

    def _schedule(self, argv: list[str]) -> Completed:
        options = dict(word[2:].partition("=")[::2] for word in argv[1:] if word[:2] == "--")
        if options["unit"] in self.timers or not self.schedules:
            return Completed(1, "", f"Unit {options['unit']}.timer was already loaded")
        command = argv[argv.index("/usr/local/bin/hostctl") :]
        self.timers[options["unit"]] = (options["on-active"], command)
        self.remember()
        return Completed(0, "", "")

    def _reset_failed(self, names: list[str], flags: list[str]) -> None:
        self.unit(names[0]).update(active="inactive", sub="dead")

    def _wants(self, name: str) -> Path:
        folder = self.root / "etc/systemd/system/multi-user.target.wants"
        folder.mkdir(parents=True, exist_ok=True)
        return folder / name

    def _enable(self, names: list[str], flags: list[str]) -> None:
        self._wants(names[0]).symlink_to("/etc/systemd/system/" + names[0])

    def _disable(self, names: list[str], flags: list[str]) -> None:
        self._wants(names[0]).unlink(missing_ok=True)

    def enabled(self) -> set[str]:
        return {link.name for link in self._wants("x").parent.iterdir()}

    def running(self) -> set[str]:
        return {name for name, unit in self.units.items() if unit["active"] == "active"}

    def _serve(self, name: str) -> None:
        app, _, release = name.removesuffix(".service").partition("-web@")
        path = self.root / f"run/{app}/{release}.sock"
        path.unlink(missing_ok=True)
        fake = self

        class Handler(socketserver.StreamRequestHandler):
            def handle(self) -> None:
                line = self.rfile.readline().decode().split()
                if line:
                    status = fake.answer(line[1])
                    self.wfile.write(b"HTTP/1.0 %d X\r\n\r\n%s" % (status, name.encode()))

        server = socketserver.ThreadingUnixStreamServer(str(path), Handler)
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
        thread.start()
        self.servers[name] = server

    def _unserve(self, name: str) -> None:
        server = self.servers.pop(name, None)
        if server is not None:
            server.shutdown()
            server.server_close()

    def close(self) -> None:
        for name in list(self.servers):
            self._unserve(name)


class Lab:
    """A host below `root`, with the app jukebox, the run `run-1` and its token."""

    def __init__(self, root: Path, keys: Mapping[str, Path]) -> None:
        self.root = root
        self.keys = keys
        self.clock = Clock()
        self.systemd = FakeSystemd(root)
        self.host = Host(
            root,
            run=self.systemd.run,
            wall=lambda: self.clock.wall,
            boottime=lambda: self.clock.boottime,
            boot_id=lambda: self.clock.boot,
            sleep=self.clock.sleep,
            python=sys.executable,
            become=False,
        )
        self.run, self.token = "run-1", 1
        self._settle_in()

    def _settle_in(self) -> None:
        for folder in (
            "srv/jukebox/releases",
            "srv/jukebox/shared",
            "run/jukebox",
            "run/backline",
            "var/lib/backline/incoming",
            "etc/backline/apps/jukebox/processes",
            "etc/systemd/system",
            "etc/tmpfiles.d",
            "etc/jukebox",
        ):
            (self.root / folder).mkdir(parents=True)
        public = self.keys["release"].with_suffix(".pub").read_text()
        signer = f'release@backline namespaces="backline-release,backline-hostctl" {public}'
        self.path("etc/backline/allowed_signers").write_text(signer)
        self.path("etc/jukebox/jukebox.env").write_text("JUKEBOX_SECRET_KEY=s3cret-value\n")
        self.path("etc/backline/apps/jukebox/app.json").write_text('{"app": "jukebox"}')
        self.declare("web", "web", "http", workers=2)
        self.declare("worker-plays", "worker", "worker", queues="plays")
        self.declare("beat", "beat", "singleton")

    def declare(self, name: str, process: str, kind: str, **parameters: object) -> None:
        content = {
            "name": name,
            "process": process,
            "kind": kind,
            "unit": f"jukebox-{name}@.service",
            "parameters": parameters,
        }
        path = self.path(f"etc/backline/apps/jukebox/processes/{name}.json")
        path.write_text(json.dumps(content))

    def path(self, relative: str) -> Path:
        return self.root / relative

    @property
    def releases(self) -> Path:
        return self.path("srv/jukebox/releases")

    def call(self, verb: str, raw: bytes | None = None, **fields: Any) -> tuple[int, Any]:
        """One call of hostctl: (exit status, answer). Identity is filled in unless given."""
        identity = {"app": "jukebox", "run": self.run, "token": self.token}
        sent = {k: v for k, v in {**identity, **fields}.items() if v is not ...}
        stdin = io.TextIOWrapper(io.BytesIO(json.dumps(sent).encode() if raw is None else raw))
        with mock.patch.object(sys, "stdin", stdin):
            return cli.perform(self.host, verb, [])

    def ok(self, verb: str, **fields: Any) -> Any:
        status, answer = self.call(verb, **fields)
        assert (status, answer["ok"]) == (0, True), answer
        return answer

    def refused(self, verb: str, **fields: Any) -> tuple[int, str]:
        status, answer = self.call(verb, **fields)
        assert answer["ok"] is False and answer["error"]["message"], answer
        return status, answer["error"]["code"]

    def take(self, **fields: Any) -> None:
        self.ok("lease", action="take", **fields)

    def plant(self, *releases: str, processes: Mapping[str, Any] = PROCESSES, **more: Any) -> None:
        """Put releases where `stage` would, without the work."""
        state_path = self.path("var/lib/backline/jukebox/state.json")
        known = json.loads(state_path.read_text()) if state_path.exists() else {"releases": {}}
        for release in releases:
            folder = self.releases / release
            (folder / "app").mkdir(parents=True)
            manifest = {
                "id": release,
                "version": f"1.{release[-1]}",
                "processes": processes,
                **more,
            }
            (folder / "release.json").write_text(json.dumps(manifest))
            known["releases"][release] = {"state": "staged"}
        state_path.parent.mkdir(parents=True, exist_ok=True)
        state_path.write_text(json.dumps(known))

    def upload_patch(self, release: str, base: str, **options: Any) -> Path:
        """Upload `release` as a patch to the kept tar of `base`; returns the patch."""
        folder = self.upload(release, **options)
        archive = folder / f"{release}.tar.zst"
        tar = archive.with_name("new.tar")
        subprocess.run(["zstd", "-q", "-d", "-o", str(tar), str(archive)], check=True)
        patch = folder / f"{release}.from-{base}.patch.zst"
        kept = self.releases / base / "release.tar"
        argv = ["zstd", "-q", "-f", "--long=31", f"--patch-from={kept}", "-o", str(patch)]
        subprocess.run([*argv, str(tar)], check=True)
        tar.unlink()
        archive.unlink()
        return patch

    def upload(self, release: str = R1, **options: Any) -> Path:
        """Build, sign and upload a release; returns the folder of uploads."""
        folder = self.path("var/lib/backline/incoming")
        made = folder
        if not options:  # the plain release is the same every time: build it once
            made = self.keys["release"].with_name(release)
        if made == folder or not made.exists():
            made.mkdir(exist_ok=True)
            build_release(made, release, self.keys["release"], **options)
        if made != folder:
            shutil.copytree(made, folder, dirs_exist_ok=True)
        return folder

    def journal(self) -> list[dict[str, Any]]:
        path = self.path("var/lib/backline/jukebox/journal.jsonl")
        return [json.loads(line) for line in path.read_text().splitlines()]

    def leftovers(self) -> list[str]:
        return sorted(path.name for path in self.releases.glob(".*"))


def make_wheel(name: str = "greet", tag: str = "py3-none-any", **more: bytes) -> tuple[str, bytes]:
    """A small wheel with a module, a console script, a data script and a data file."""
    info = f"{name}-1.0.dist-info"
    members: dict[str, bytes] = {
        f"{name}/__init__.py": b"def main():\n    import sys\n    print('hello', sys.prefix)\n",
        f"{name}-1.0.data/scripts/{name}-tool": b"#!python\nprint('tool')\n",
        f"{name}-1.0.data/data/share/{name}.txt": b"data\n",
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n".encode(),
        f"{info}/WHEEL": f"Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: {tag}\n".encode(),
        f"{info}/entry_points.txt": f"[console_scripts]\n{name} = {name}:main\n".encode(),
        f"{info}/RECORD": b"",
        **more,
    }
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for member, content in members.items():
            info_of = zipfile.ZipInfo(member)  # of 1980: the same wheel whenever it is made
            info_of.external_attr = 0o600 << 16
            archive.writestr(info_of, content)
    return f"{name}-1.0-{tag}.whl", buffer.getvalue()


def build_release(
    folder: Path,
    release: str,
    key: Path,
    *,
    files: Mapping[str, bytes] | None = None,
    wheels: tuple[tuple[str, bytes], ...] = (),
    change_manifest: Callable[[dict[str, Any]], None] = lambda manifest: None,
    change_tar: Callable[[tarfile.TarFile], None] = lambda tar: None,
    leave_out: str = "",
) -> None:
    """What `inv release.build` writes, with places to cheat before it is signed."""
    contents = {"app/manage.py": b"print('manage')\n", "app/static/a.css": b"a{}\n"}
    contents.update(files or {})
    contents.update({f"wheelhouse/{name}": content for name, content in wheels})
    listed = {
        name: {"sha256": hashlib.sha256(data).hexdigest(), "size": len(data), "mode": "0644"}
        for name, data in contents.items()
    }
    tar_bytes = _tar({k: v for k, v in contents.items() if k != leave_out}, change_tar)
    zst = subprocess.run(["zstd", "-q", "-c"], input=tar_bytes, stdout=-1, check=True).stdout
    manifest: dict[str, Any] = {
        "schema_version": 1,
        "id": release,
        "app": "jukebox",
        "version": f"1.{release[-1]}",
        "commit": None,
        "dirty": False,
        "built_at": "2026-11-22T19:05:00Z",
        "python": PYTHON,
        "archive": {
            "tar_sha256": hashlib.sha256(tar_bytes).hexdigest(),
            "tar_size": len(tar_bytes),
            "zst_sha256": hashlib.sha256(zst).hexdigest(),
            "zst_size": len(zst),
        },
        "files": listed,
        "processes": PROCESSES,
        "migrations": {"expand": [], "contract": []},
    }
    change_manifest(manifest)
    (folder / f"{release}.tar.zst").write_bytes(zst)
    signed = folder / f"{release}.release.json"
    signed.write_text(json.dumps(manifest))
    sign(signed, key)


def sign(path: Path, key: Path) -> None:
    """`ssh-keygen -Y sign`, as the controller does it."""
    path.with_name(path.name + ".sig").unlink(missing_ok=True)
    argv = ["ssh-keygen", "-q", "-Y", "sign", "-f", str(key), "-n", "backline-release", str(path)]
    subprocess.run(argv, check=True, stderr=subprocess.DEVNULL)


def _tar(contents: Mapping[str, bytes], change: Callable[[tarfile.TarFile], None]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for name in ("app", "wheelhouse"):
            member = tarfile.TarInfo(name)
            member.type = tarfile.DIRTYPE
            tar.addfile(member)
        for name, data in sorted(contents.items()):
            add_file(tar, name, data)
        change(tar)
    return buffer.getvalue()


def add_file(tar: tarfile.TarFile, name: str, data: bytes, **attributes: Any) -> None:
    """Add one member, honest or not."""
    member = tarfile.TarInfo(name)
    member.size = len(data)
    for key, value in attributes.items():
        setattr(member, key, value)
    tar.addfile(member, io.BytesIO(data))


@contextlib.contextmanager
def environment(**variables: str) -> Iterator[None]:
    """Environment variables for a moment."""
    with mock.patch.dict(os.environ, variables):
        yield
