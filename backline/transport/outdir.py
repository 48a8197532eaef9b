"""One file per host with what its command wrote, written as it comes."""

from __future__ import annotations

import os
from pathlib import Path

from backline import wording
from backline.errors import BacklineError


class Outdir:
    """`HOST.out` for each host (there even when it said nothing), `HOST.err` where there is any.

    Files of an earlier run are replaced, whatever they link to is left alone, and nobody else may read
    the new ones. Callable from several threads, one for each host. `troubles`: of which hosts
    something is missing, and why; a command on a host does not end because our disk is full.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.troubles: dict[str, str] = {}
        try:
            self.folder = folder.expanduser()
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        except (OSError, RuntimeError) as error:  # RuntimeError: nobody of that name has a home
            why = error.strerror if isinstance(error, OSError) else error
            raise BacklineError(f"--outdir {folder}: {why}", state="nothing was run") from None

    def begin(self, host: str) -> None:
        """Makes an empty file, and takes away what an earlier run left. Raises BacklineError."""
        try:
            self._path(host, "stderr").unlink(missing_ok=True)
            path = self._path(host, "stdout")
            path.unlink(missing_ok=True)
            os.close(_open(path, os.O_EXCL))
        except OSError as error:
            raise BacklineError(
                f"{error.filename}: {error.strerror}", state="nothing was run"
            ) from None

    def heard(self, host: str, stream: str, data: bytes) -> None:
        """Adds to a host's file; opened for each piece: a thousand hosts are more than may be open."""
        try:
            with os.fdopen(_open(self._path(host, stream), os.O_APPEND), "ab") as file:
                file.write(data)
        except OSError as error:
            self.troubles.setdefault(host, f"{self._path(host, stream)}: {error.strerror}")

    @property
    def trouble(self) -> str:
        """What is missing, in words: the first file and why, and how many more."""
        if not self.troubles:
            return ""
        more = len(self.troubles) - 1
        others = f", and {wording.counted(more, 'more host')}" if more else ""
        return f"not all output was kept: {next(iter(self.troubles.values()))}{others}"

    def _path(self, host: str, stream: str) -> Path:
        name = host.replace("/", "_").lstrip(".")
        return self.folder / f"{name}.{'out' if stream == 'stdout' else 'err'}"


def _open(path: Path, how: int) -> int:
    """A descriptor to write to the file itself, never to what it links to."""
    return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC | how, 0o600)
