"""The wheels a release carries: those of the app's lock, fetched once, for the hosts' Python."""

from __future__ import annotations

import hashlib
import shutil
import sys
import tempfile
from pathlib import Path

from backline import places
from backline.errors import BacklineError
from backline.release.manifest import AppManifest
from backline.transport import local

PIP_SECONDS = 1800.0
HOST_GLIBC = 36
"""Debian 12 has glibc 2.36, so wheels up to manylinux_2_36 run on the hosts."""


def is_empty(lock: Path) -> bool:
    """True when a requirements file asks for nothing."""
    rows = lock.read_text(encoding="utf-8").splitlines()
    return not any(row.strip() and not row.lstrip().startswith("#") for row in rows)


def cache_key(lock: Path, manifest: AppManifest) -> str:
    """The digest that names a wheelhouse: the lock's bytes and the target."""
    total = hashlib.sha256(lock.read_bytes())
    total.update(f"\0{manifest.python} {manifest.architecture} glibc 2.{HOST_GLIBC}".encode())
    return total.hexdigest()


def fetch(folder: Path, manifest: AppManifest) -> Path | None:
    """The folder with the wheels of the app in `folder`, from the cache or by pip; None for none.

    Raises BacklineError with pip's own words when a hash differs, a wheel is missing or PyPI cannot
    be reached. The cache only ever holds whole wheelhouses.
    """
    lock = folder / manifest.requirements
    if is_empty(lock):
        return None
    kept = places.cache() / "wheelhouse" / cache_key(lock, manifest)
    if kept.is_dir():
        return kept
    kept.parent.mkdir(parents=True, exist_ok=True)
    partial = Path(tempfile.mkdtemp(prefix=f".{kept.name[:12]}.", dir=kept.parent))
    try:
        _download(lock, manifest, partial)
        partial.chmod(0o755)
        try:
            partial.rename(kept)
        except OSError:
            if not kept.is_dir():  # else another build made the same one meanwhile
                raise
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return kept


def pip_words(lock: Path, manifest: AppManifest, target: Path) -> list[str]:
    """The pip command that fetches the wheels for the hosts, whatever machine this is."""
    words = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check"]
    words += ["--no-input", "--require-hashes", "--no-deps", "--only-binary=:all:"]
    words += ["--python-version", manifest.python, "--implementation", "cp"]
    words += ["--abi", f"cp{manifest.python.replace('.', '')}", "--abi", "abi3", "--abi", "none"]
    for minor in range(HOST_GLIBC, 4, -1):
        words += ["--platform", f"manylinux_2_{minor}_{manifest.architecture}"]
    words += ["--platform", f"manylinux2014_{manifest.architecture}"]
    words += ["--platform", f"linux_{manifest.architecture}"]
    return [*words, "--dest", str(target), "--requirement", str(lock)]


def _download(lock: Path, manifest: AppManifest, target: Path) -> None:
    done = local.run(pip_words(lock, manifest, target), deadline=PIP_SECONDS)
    if not done.code:
        return
    said = done.stderr.strip()
    hint = "is PyPI, or the index that pip is configured for, reachable from here?"
    if "No module named pip" in said:
        hint = "install pip into the virtual environment: uv pip install pip"
    elif "hash" in said.lower():
        hint = f"lock every requirement with its hashes: uv pip compile --generate-hashes -o {lock}"
    elif "No matching distribution" in said or "Could not find a version" in said:
        hint = (
            f"the hosts need a wheel for Python {manifest.python} on {manifest.architecture} "
            "with glibc 2.36; choose a version that has one"
        )
    raise BacklineError(
        f"pip could not fetch the wheels of {lock}",
        state="\n".join(said.splitlines()[-12:]) + "\nnothing was built",
        hint=hint,
    )
