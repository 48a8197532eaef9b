"""Runs programs on this machine, with a deadline, and never leaves one behind."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from backline.errors import BacklineError

GRACE_SECONDS = 5.0


@dataclass(frozen=True)
class Done:
    """What a program left: its exit code and everything it wrote."""

    code: int
    stdout: str
    stderr: str


def run(
    argv: Sequence[str],
    *,
    cwd: Path | None = None,
    env: Mapping[str, str] | None = None,
    stdin: str | None = None,
    deadline: float | None = None,
) -> Done:
    """Runs `argv` (no shell) with `env` added to ours, and returns what it said; `deadline` in seconds.

    Its whole process group is ended when the deadline passes (BacklineError) or when we are
    interrupted. BacklineError, too, when there is no such program.
    """
    with start(argv, cwd=cwd, env=env, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        try:
            out, err = process.communicate((stdin or "").encode(), timeout=deadline)
        except subprocess.TimeoutExpired:
            end(process)
            raise BacklineError(
                f"{argv[0]} did not finish within {deadline:.0f} s",
                state="it was ended",
                hint=f"the command was: {' '.join(argv)}",
            ) from None
        except BaseException:
            end(process)
            raise
    return Done(process.returncode, out.decode(errors="replace"), err.decode(errors="replace"))


def start(
    argv: Sequence[str],
    *,
    cwd: Path | None = None,
    env: Mapping[str, str] | None = None,
    stdin: int | None = None,
    stdout: int | None = None,
    stderr: int | None = subprocess.PIPE,
) -> subprocess.Popen[bytes]:
    """Starts `argv` in a process group of its own; the caller waits for it, or calls `end`."""
    try:
        return subprocess.Popen(
            list(argv),
            cwd=cwd,
            env={**os.environ, **(env or {})},
            stdin=stdin,
            stdout=stdout,
            stderr=stderr,
            start_new_session=True,
        )
    except FileNotFoundError:
        if cwd is not None and not cwd.is_dir():
            raise BacklineError(f"there is no folder {cwd}") from None
        raise missing(argv[0]) from None


def end(process: subprocess.Popen[bytes]) -> None:
    """Ends a process group: asked first, killed after some seconds."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        with suppress(ProcessLookupError):
            os.killpg(process.pid, number)
        try:
            process.wait(GRACE_SECONDS)
            return
        except subprocess.TimeoutExpired:
            continue


def missing(program: str) -> BacklineError:
    """The error for a program that this machine lacks."""
    packages = {"zstd": "zstd", "ssh-keygen": "openssh-client", "git": "git"}
    name = Path(program).name
    return BacklineError(
        f"this machine has no program {name!r}",
        hint=f"apt-get install {packages.get(name, name)}",
    )


def tool(name: str) -> str:
    """A program of our own virtual environment if it is there, else the one on PATH."""
    beside = Path(sys.executable).with_name(name)
    found = str(beside) if beside.exists() else shutil.which(name)
    if not found:
        raise missing(name)
    return found


def attached(argv: Sequence[str], *, cwd: Path, env: Mapping[str, str]) -> int:
    """Runs `argv` on our own terminal and returns its exit code; Ctrl-C reaches it as it does us."""
    try:
        process = subprocess.Popen(list(argv), cwd=cwd, env={**os.environ, **env})
    except FileNotFoundError:
        raise missing(argv[0]) from None
    try:
        return process.wait()
    except KeyboardInterrupt:
        with suppress(subprocess.TimeoutExpired):
            process.wait(GRACE_SECONDS * 2)
        process.terminate()
        process.wait()
        return 130
