"""Standard output that is missed when it is lost, and that can show every character.

Whoever reads along may go away: that is no error (tasks.pipe). A disk that is full is one: what was to be
kept is not. The first write that fails raises as it would anyway; from then on everything is dropped, and
the task tells of it at its end, with 1.

Once hosts are being changed (`go_on`) no write raises: half a change helps nobody.

What is told on standard error alone, and cannot be, is dropped: the journal has it, and what runs goes on.
"""

from __future__ import annotations

import errno
import io
import os
import stat
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any, TextIO

from backline.errors import BacklineError

_lost: list[OSError] = []
_told: list[OSError] = []
_closed: list[str] = []
_changing: list[bool] = []


class _Raw(io.FileIO):
    """Descriptor 1, whose errors are remembered."""

    def write(self, data: Any, /) -> int:
        """See io.RawIOBase."""
        if _lost:
            return memoryview(data).nbytes
        try:
            return super().write(data)
        except OSError as error:
            if not unheard(error):
                _lost.append(error)
            if not _changing:
                raise
            return memoryview(data).nbytes


class _Errors(io.FileIO):
    """Descriptor 2, for which there may be no room: whoever writes there goes on."""

    def write(self, data: Any, /) -> int:
        """See io.RawIOBase."""
        try:
            return super().write(data)
        except OSError as error:
            if unheard(error) and not _changing:
                raise
            return memoryview(data).nbytes


def prepare() -> None:
    """For the files that `fab` and `inv` load. A character that stdout's encoding does not have is shown
    as an escape; a standard stream that is closed is none that the next socket may take over."""
    _open_missing()
    if not _closed:
        sys.stdout = _by(_Raw, sys.stdout)
    sys.stderr = _by(_Errors, sys.stderr)


def _by(kind: type[io.FileIO], usual: TextIO) -> TextIO:
    """`usual`, written by `kind`; as it is when it is no descriptor's, as in a test."""
    if not isinstance(usual, io.TextIOWrapper):
        return usual
    usual.flush()
    raw = kind(usual.fileno(), "w", closefd=False)
    return io.TextIOWrapper(
        raw if usual.write_through else io.BufferedWriter(raw),
        encoding=usual.encoding,
        errors="backslashreplace",
        line_buffering=usual.line_buffering,
        write_through=usual.write_through,
    )


def go_on() -> None:
    """Hosts are changed from now on: that goes on to its end, whoever went away or whatever disk is full."""
    _changing[:] = [True]


def unheard(error: OSError) -> bool:
    """True for a pipe without a reader, or a terminal that is gone."""
    if error.errno == errno.EIO:
        return _terminal()
    return error.errno == errno.EPIPE or isinstance(error, BrokenPipeError)


def is_loss(error: BaseException) -> bool:
    """Whether it is this that output was lost by."""
    return any(error is known for known in _lost)


def lost() -> BacklineError | None:
    """What to tell of output that was lost, once; None when all was written, or nobody listens."""
    with suppress(OSError, ValueError):  # what matters of it is in mind
        sys.stdout.flush()
    if len(_told) == len(_lost):
        return None
    _told[:] = _lost
    return BacklineError(
        f"could not write the output: {_lost[0].strerror or _lost[0]}",
        state="what was done on hosts is done; what was to be shown of it is lost",
        hint="make room, or write somewhere else",
    )


def require() -> None:
    """Raises BacklineError when there was no standard output from the start: then nothing is begun."""
    if _closed:
        raise BacklineError(
            "standard output is closed, so there is nowhere to write an answer to",
            state="nothing was started",
            hint="> /dev/null, if nobody is to read it",
        )


def _open_missing() -> None:
    for name, descriptor in (("stdin", 0), ("stdout", 1), ("stderr", 2)):
        if getattr(sys, name) is not None:
            continue
        try:
            os.fstat(descriptor)
        except OSError:
            nowhere = os.open(os.devnull, os.O_RDWR)
            if nowhere != descriptor:
                os.dup2(nowhere, descriptor)
                os.close(nowhere)
        if name == "stdout":
            _closed.append(name)
        mode = "r" if name == "stdin" else "w"
        setattr(sys, name, Path(os.devnull).open(mode, encoding="utf-8"))  # noqa: SIM115


def _terminal() -> bool:
    try:
        return stat.S_ISCHR(os.fstat(1).st_mode)
    except OSError:
        return False
