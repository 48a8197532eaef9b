"""The releases in dist/: found, read, verified."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError

from backline.errors import BacklineError, Exit
from backline.release import signing
from backline.release.model import RELEASE_ID, Release
from backline.release.pack import sha256

DOCUMENT = ".release.json"


@dataclass(frozen=True)
class Stored:
    """A release in a folder, with the files that travel."""

    release: Release
    archive: Path
    document: Path
    signature: Path

    @property
    def files(self) -> tuple[Path, Path, Path]:
        """All that a host needs, small things first."""
        return (self.document, self.signature, self.archive)


def ids(folder: Path) -> list[str]:
    """The IDs of all releases in `folder`, oldest first."""
    names = (path.name.removesuffix(DOCUMENT) for path in folder.glob(f"*{DOCUMENT}"))
    return sorted(name for name in names if RELEASE_ID.fullmatch(name))


def load(folder: Path, identity: str) -> Stored:
    """The release `identity` in `folder`, not verified yet; `latest` is the newest.

    Raises BacklineError when there is none (naming those that are there), or when its files are
    damaged.
    """
    known = ids(folder)
    if identity == "latest" and known:
        identity = known[-1]
    document = folder / f"{identity}{DOCUMENT}"
    if identity not in known:
        recent = ", ".join(reversed(known[-5:])) or "none"
        raise BacklineError(
            f"there is no release {identity!r} in {folder}",
            state="nothing was changed",
            hint=f"there: {recent}; build one: inv release.build examples/jukebox",
        )
    try:
        release = Release.model_validate_json(document.read_bytes())
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"]) or "it"
        raise _damaged(document, f"{place}: {first['msg']}") from None
    if release.id != identity:
        raise _damaged(document, f"it says that it is {release.id}")
    archive = folder / f"{identity}.tar.zst"
    if not archive.is_file():
        raise _damaged(document, f"{archive} is missing")
    return Stored(release, archive, document, document.with_name(document.name + ".sig"))


def verify(stored: Stored, signers: Iterable[str]) -> None:
    """Checks the document's signature and the archive's digest; BacklineError (6) if bad."""
    signing.verify(stored.document, stored.signature, signers)
    expected, found = stored.release.archive.zst_sha256, sha256(stored.archive)
    if found != expected:
        raise BacklineError(
            f"{stored.archive} is not the archive that was signed: "
            f"SHA-256 {found[:12]}…, signed {expected[:12]}…",
            state="it was changed or damaged after the build; nothing was sent to any host",
            hint="build it again: inv release.build",
            exit_code=Exit.GUARD_REFUSED,
        )


def _damaged(document: Path, what: str) -> BacklineError:
    return BacklineError(
        f"the release {document} is damaged: {what}",
        state="nothing was changed",
        hint="remove its files and build it again: inv release.build",
    )
