"""Which files of an app belong to a release."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path, PurePosixPath

from backline.errors import BacklineError
from backline.release.manifest import AppManifest
from backline.transport import local

NEVER = ("__pycache__", ".git", ".venv", ".mypy_cache", ".pytest_cache", ".ruff_cache", "*.pyc")
GIT_SECONDS = 60.0


@dataclass(frozen=True)
class Source:
    """An app's files and where they came from.

    `files` are relative, sorted; `commit` is None outside of git; `left_out` are files that git
    neither tracks nor ignores, and that are therefore not in the release.
    """

    folder: Path
    files: tuple[PurePosixPath, ...]
    commit: str | None
    commit_time: int
    described: str | None
    dirty: bool
    left_out: tuple[str, ...]


def collect(folder: Path, manifest: AppManifest) -> Source:
    """The app's files: what git tracks (or all, outside of git), plus `include`, less `exclude`.

    Raises BacklineError for a pattern that matches nothing, a link that leads out of the folder,
    and a requirements file that is missing.
    """
    commit = _git(folder, "rev-parse", "--verify", "HEAD")
    tracked = _git(folder, "ls-files", "-z", "--cached", "--", ".") if commit else None
    if tracked:
        names = {name for name in tracked.split("\0") if name}
        present = {name for name in names if (folder / name).exists()}
    else:
        commit, present = None, set(_all_files(folder))
    for pattern in manifest.include:
        present |= _included(folder, pattern)
    unwanted = (*NEVER, *manifest.exclude)
    kept = {name for name in present if not _excluded(name, unwanted)}
    kept.add(manifest.requirements)
    untracked = _git(folder, "ls-files", "-z", "--others", "--exclude-standard", "--", ".")
    loose = set((untracked or "").split("\0")) - kept - {""} if commit else set()
    return Source(
        folder=folder,
        files=tuple(sorted(PurePosixPath(_checked(folder, name)) for name in kept)),
        commit=commit.strip() if commit else None,
        commit_time=int(_git(folder, "log", "-1", "--format=%ct", "--", ".") or 0) if commit else 0,
        described=(_git(folder, "describe", "--tags", "--always", "--dirty") or "").strip() or None,
        dirty=bool(commit and _git(folder, "status", "--porcelain", "-uno", "--", ".")),
        left_out=tuple(sorted(name for name in loose if not _excluded(name, unwanted))),
    )


def content_digest(source: Source) -> str:
    """SHA-256 over paths, modes and bytes of all files."""
    total = hashlib.sha256()
    for name in source.files:
        path = source.folder / name
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        total.update(f"{name}\0{mode(path):o}\0{digest}\n".encode())
    return total.hexdigest()


def mode(path: Path) -> int:
    """0755 for what its owner may execute, 0644 for the rest; nothing else survives packing."""
    return 0o755 if path.stat().st_mode & 0o100 else 0o644


def _git(folder: Path, *words: str) -> str | None:
    """What git says, or None when it has nothing to say (no repository, no commit, no git)."""
    try:
        done = local.run(["git", "-C", str(folder), *words], deadline=GIT_SECONDS)
    except BacklineError:
        return None
    return done.stdout if done.code == 0 else None


def _all_files(folder: Path) -> list[str]:
    return [path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()]


def _included(folder: Path, pattern: str) -> set[str]:
    if pattern.startswith("/") or ".." in PurePosixPath(pattern).parts:
        raise BacklineError(f"include pattern {pattern!r} leads out of {folder}")
    found = {p.relative_to(folder).as_posix() for p in folder.glob(pattern) if p.is_file()}
    for place in folder.glob(pattern):
        if place.is_dir():
            found |= {p.relative_to(folder).as_posix() for p in place.rglob("*") if p.is_file()}
    if not found:
        raise BacklineError(
            f"include pattern {pattern!r} matches no file in {folder}",
            state="nothing was built",
            hint="make the file first, or remove the pattern from backline.toml",
        )
    return found


def _excluded(name: str, patterns: tuple[str, ...]) -> bool:
    """True when a pattern fits the path, a folder above it, or (without a slash) any part of it."""
    path = PurePosixPath(name)
    above = [name, *(str(parent) for parent in path.parents)]
    return any(
        fnmatch(place, pattern.rstrip("/")) for pattern in patterns for place in above
    ) or any(
        fnmatch(part, pattern) for pattern in patterns if "/" not in pattern for part in path.parts
    )


def _checked(folder: Path, name: str) -> str:
    path = folder / name
    if not path.is_file():
        raise BacklineError(
            f"{path} is missing or is not a file",
            state="nothing was built",
            hint="`requirements` in backline.toml names the lock file; an empty one will do",
        )
    if not path.resolve().is_relative_to(folder.resolve()):
        raise BacklineError(
            f"{path} is a link to {path.resolve()}, outside of the app's folder",
            state="nothing was built",
            hint="copy the file into the app, or exclude it in backline.toml",
        )
    return name
