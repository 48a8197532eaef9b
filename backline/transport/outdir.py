"""One file per host with what its command wrote, written as it comes."""

from __future__ import annotations

from pathlib import Path

from backline.errors import BacklineError


class Outdir:
    """`HOST.out` for each host (there even when it said nothing), `HOST.err` where there is any.

    Files of an earlier run are replaced. Callable from several threads, one for each host. `trouble`:
    why something is missing in them; a command on a host does not end because our disk is full.
    """

    def __init__(self, folder: Path) -> None:
        self.folder, self.trouble = folder, ""
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise BacklineError(
                f"--outdir {folder}: {error.strerror}", state="nothing was run"
            ) from None

    def begin(self, host: str) -> None:
        """Makes an empty file, and takes away what an earlier run left. Raises BacklineError."""
        try:
            self._path(host, "stderr").unlink(missing_ok=True)
            self._path(host, "stdout").write_bytes(b"")
        except OSError as error:
            raise BacklineError(
                f"{error.filename}: {error.strerror}", state="nothing was run"
            ) from None

    def heard(self, host: str, stream: str, data: bytes) -> None:
        """Adds to a host's file; opened for each piece: a thousand hosts are more than may be open."""
        try:
            with self._path(host, stream).open("ab") as file:
                file.write(data)
        except OSError as error:
            self.trouble = f"{self._path(host, stream)}: {error.strerror}"

    def _path(self, host: str, stream: str) -> Path:
        name = host.replace("/", "_").lstrip(".")
        return self.folder / f"{name}.{'out' if stream == 'stdout' else 'err'}"
