"""Runs outside checkers on a lab's hosts, and brings back what they said.

They stay off the hosts: lynis is copied to /run and removed again, the others run here and look at the
hosts from outside. ssh-audit and gixy-ng live in an environment of their own, locked by digest.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from backline.errors import BacklineError
from backline.lab.machine import Say, install, podman
from backline.lab.topology import ROOT, LabHost, Topology

CACHE = ROOT / ".cache"
VENV = CACHE / "audit-venv"
LOCK = ROOT / "tests" / "audit" / "requirements.lock"
LYNIS = CACHE / "lynis"
PLACE = "/run/backline-lynis"
PATIENCE = 900


def ensure(tools: list[str], say: Say) -> None:
    """Gets what the checkers need: Debian packages and a virtual environment on this machine."""
    if "testssl" in tools and not shutil.which("testssl"):
        install(["testssl.sh", "bsdextrautils"], "testssl.sh", say)
    if {"ssh-audit", "gixy"} & set(tools):
        uv = Path(sys.executable).parent / "uv"
        python = VENV / "bin" / "python"
        _run(uv, "venv", "--quiet", "--allow-existing", "--python", sys.executable, VENV)
        _run(uv, "pip", "sync", "--quiet", "--require-hashes", "--python", python, LOCK)
    if "lynis" in tools and not (LYNIS / "lynis").exists():
        say("fetching lynis, as a package that is not installed")
        _unpack_lynis()


def _unpack_lynis() -> None:
    """Debian's package as one folder in which lynis runs wherever it is put."""
    with tempfile.TemporaryDirectory() as scratch:
        place = Path(scratch)
        _run("apt-get", "-o", "APT::Sandbox::User=root", "download", "lynis", folder=place)
        _run("dpkg-deb", "--extract", next(place.glob("lynis_*.deb")), place / "root")
        whole = place / "whole"
        shutil.copytree(place / "root/usr/share/lynis", whole)
        shutil.copy(place / "root/usr/sbin/lynis", whole)
        shutil.copytree(place / "root/etc/lynis/plugins", whole / "plugins", dirs_exist_ok=True)
        shutil.copy(place / "root/etc/lynis/default.prf", whole)
        LYNIS.parent.mkdir(exist_ok=True)
        shutil.copytree(whole, LYNIS, dirs_exist_ok=True)


def lynis(lab: Topology, host: LabHost, skip: Iterable[str] = ()) -> str:
    """lynis' report file of a host, without the tests in `skip`. Nothing of lynis stays there."""
    container = lab.container(host.name)
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        archive.add(LYNIS, arcname=PLACE.rpartition("/")[2], filter=_as_root)
        profile = (LYNIS / "default.prf").read_bytes()
        profile += "".join(f"\nskip-test={test}" for test in skip).encode() + b"\n"
        member = tarfile.TarInfo(f"{PLACE.rpartition('/')[2]}/audit.prf")
        member.size, member.mode = len(profile), 0o644
        archive.addfile(member, io.BytesIO(profile))
    # Not `podman cp`, which closes the pipe now and then while the host is busy.
    unpack = ("tar", "--extract", "--directory", "/run")
    podman("exec", "-i", container, *unpack, data=buffer.getvalue())
    options = "--quick --quiet --no-colors --profile ./audit.prf"
    words = f"sh ./lynis audit system {options} --report-file report.dat --logfile lynis.log"
    try:
        podman(
            "exec", "--workdir", PLACE, container, "sh", "-c", f"{words} || true", timeout=PATIENCE
        )
        return podman("exec", container, "cat", f"{PLACE}/report.dat")
    finally:
        with contextlib.suppress(BacklineError):
            podman("exec", container, "rm", "-rf", PLACE)


def _as_root(member: tarfile.TarInfo) -> tarfile.TarInfo:
    member.uid = member.gid = 0
    return member


def ssh_audit(host: LabHost) -> dict[str, Any]:
    """ssh-audit's word on a host's sshd, asked from outside.

    Without its test of how fast connections are taken, which limits per source make misleading.
    """
    words = (VENV / "bin" / "ssh-audit", "--json", "--skip-rate-test", "--timeout", "15")
    document: dict[str, Any] = json.loads(_run(*words, "-p", str(host.ssh_port), "127.0.0.1"))
    return document


def testssl(host: LabHost, ca: Path) -> list[dict[str, Any]]:
    """testssl.sh's word on an edge, which has to be trusted by the lab's own CA."""
    with tempfile.TemporaryDirectory() as scratch:
        answer = Path(scratch) / "answer.json"
        words = ("testssl", "--quiet", "--color", "0", "--warnings", "off", "--ip", "127.0.0.1")
        _run(
            *words,
            "--add-ca",
            ca,
            "--jsonfile",
            answer,
            f"https://localhost:{host.ports['https'][0]}",
        )
        entries: list[dict[str, Any]] = json.loads(answer.read_text(encoding="utf-8"))
    if not any(entry["id"] == "cipherlist_NULL" for entry in entries):
        raise BacklineError(f"testssl.sh could not talk to {host.name}", hint="inv lab.status")
    return entries


def systemd(lab: Topology, host: LabHost) -> list[dict[str, Any]]:
    """What `systemd-analyze security` says of each unit that is loaded."""
    words = ("systemd-analyze", "security", "--no-pager", "--json=short")
    rows: list[dict[str, Any]] = json.loads(podman("exec", lab.container(host.name), *words))
    return rows


def gixy(lab: Topology, host: LabHost) -> list[dict[str, Any]] | None:
    """gixy's word on the whole configuration of nginx; None where there is no nginx."""
    container = lab.container(host.name)
    look = "if command -v nginx >/dev/null; then nginx -T 2>/dev/null; fi"
    dump = podman("exec", container, "sh", "-c", look)
    if not dump.strip():
        return None
    # It exits with 1 when it found something.
    said = _run(VENV / "bin" / "gixy", "--format", "json", "-", text=dump)
    entries: list[dict[str, Any]] = json.loads(said or "[]")
    return entries


def _run(*words: str | Path, folder: Path = ROOT, text: str | None = None) -> str:
    """What a command printed. Checkers exit with what they found: only silence is a failure."""
    done = subprocess.run(
        [str(word) for word in words],
        cwd=folder,
        input=text,
        stdin=subprocess.DEVNULL if text is None else None,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        env={**os.environ, "DEBIAN_FRONTEND": "noninteractive"},
        check=False,
    )
    if done.returncode != 0 and not done.stdout.strip():
        raise BacklineError(
            f"`{Path(str(words[0])).name}` ended with {done.returncode}",
            hint=done.stderr.strip()[-300:],
        )
    return done.stdout
