"""Builds the lab's image: from Debian's packages with mmdebstrap, or on an image registry's base."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import tempfile
from pathlib import Path

from backline.errors import BacklineError
from backline.lab.machine import Say, exists, install, podman
from backline.lab.topology import ROOT

FOLDER = ROOT / "lab" / "image"
REPOSITORY = "localhost/backline-lab"
SOURCES = (Path("/etc/apt/sources.list.d/debian.sources"), Path("/etc/apt/sources.list"))


def image_name() -> str:
    """`localhost/backline-lab:<digest of what it is built from>`."""
    digest = hashlib.sha256()
    for path in sorted(FOLDER.iterdir()):
        digest.update(path.name.encode() + b"\0" + path.read_bytes() + b"\0")
    return f"{REPOSITORY}:{digest.hexdigest()[:12]}"


def ensure_image(say: Say, source: str = "auto") -> str:
    """Returns the image's name, building it if it is not there.

    `source`: `packages` (mmdebstrap with this machine's own apt sources), `registry` (a container
    build on debian:bookworm), or `auto`: packages where this machine has apt, else registry.
    """
    name = image_name()
    if not exists("image", name):
        if source == "auto":
            source = "packages" if shutil.which("apt-get") and os.geteuid() == 0 else "registry"
        (_from_packages if source == "packages" else _from_registry)(name, say)
    # The roles' own tests name the image without knowing the digest.
    podman("tag", name, f"{REPOSITORY}:bookworm")
    return name


def _from_packages(name: str, say: Say) -> None:
    if not shutil.which("mmdebstrap"):
        install(["mmdebstrap"], "mmdebstrap (to build the hosts' image)", say)
    say("building the hosts' image from Debian's packages (about a minute)")
    packages = ",".join((FOLDER / "packages.txt").read_text(encoding="utf-8").split())
    with tempfile.TemporaryDirectory(prefix="backline-image-") as folder:
        archive = Path(folder) / "root.tar"
        command = [
            "mmdebstrap",
            "--variant=minbase",
            f"--include={packages}",
            f"--customize-hook=copy-in {FOLDER / 'setup.sh'} /tmp",
            '--customize-hook=chroot "$1" sh /tmp/setup.sh && rm "$1/tmp/setup.sh"',
            "--skip=cleanup/apt/lists",
            *_proxies(),
            "bookworm",
            str(archive),
            *_sources(),
        ]
        done = subprocess.run(command, capture_output=True, text=True, timeout=900, check=False)
        if done.returncode != 0:
            said = done.stderr.strip().splitlines()
            full = [line for line in said if "No space left" in line]
            free = shutil.disk_usage(folder).free // 2**20
            raise BacklineError(
                "mmdebstrap could not build the hosts' image: " + (full or said or ["no word"])[-1],
                state=f"nothing was kept; {free} MiB are free in {tempfile.gettempdir()}",
                hint="make room there, or name another folder: TMPDIR=/var/tmp inv lab.up"
                if full
                else "check that `apt-get update` works on this machine, then `inv lab.up` again",
            )
        podman(
            "import",
            '--change=CMD ["/sbin/init"]',
            "--change=STOPSIGNAL SIGRTMIN+3",
            str(archive),
            name,
        )


def _from_registry(name: str, say: Say) -> None:
    say("building the hosts' image on debian:bookworm (a minute or two)")
    podman("build", "--tag", name, str(FOLDER), timeout=1200)


def _sources() -> list[str]:
    """This machine's own Debian sources; none means mmdebstrap's default mirror."""
    return [str(path) for path in SOURCES if path.exists() and "bookworm" in path.read_text()][:1]


def _proxies() -> list[str]:
    if not shutil.which("apt-config"):
        return []
    shown = subprocess.run(["apt-config", "dump"], capture_output=True, text=True, check=False)
    return [
        f"--aptopt={line.rstrip(';')}"
        for line in shown.stdout.splitlines()
        if line.startswith(("Acquire::http::Proxy ", "Acquire::https::Proxy "))
    ]
