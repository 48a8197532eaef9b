"""A program at a terminal of its own, which can be closed under it as a window is."""

from __future__ import annotations

import fcntl
import os
import select
import signal
import subprocess
import termios
import threading
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Self


class Terminal:
    """`argv` as a person starts it. Whatever it is doing, nothing of it outlives the block."""

    def __init__(self, argv: Sequence[str], env: Mapping[str, str], cwd: Path) -> None:
        self._master, slave = os.openpty()
        self.process = subprocess.Popen(
            list(argv),
            cwd=cwd,
            env=dict(env),
            stdin=slave,
            stdout=slave,
            stderr=slave,
            start_new_session=True,
            preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
        )
        os.close(slave)
        self._shown = bytearray()
        self._closing = threading.Event()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.hang_up()
        if self.process.poll() is None:
            with suppress(ProcessLookupError):
                os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()

    @property
    def shown(self) -> str:
        """What it has shown so far."""
        return self._shown.decode(errors="replace")

    def whole(self) -> str:
        """All that it has shown, once it and its children have ended."""
        self._reader.join(10)
        return self.shown

    def hang_up(self) -> None:
        """Closes the window: the kernel tells the program, and nothing can be shown any more."""
        if not self._closing.is_set():
            self._closing.set()
            self._reader.join()
            os.close(self._master)

    def die(self, how: str) -> int:
        """Ends it by `hangup`, `hangup twice` (the shell sends a second one) or `kill`; its exit code."""
        if how == "kill":
            self.process.kill()
        else:
            self.hang_up()
        if how == "hangup twice":
            with suppress(ProcessLookupError):
                self.process.send_signal(signal.SIGHUP)
        return self.process.wait(30)

    def _read(self) -> None:
        while not self._closing.is_set():
            if select.select([self._master], [], [], 0.1)[0]:
                try:
                    self._shown += os.read(self._master, 65536)
                except OSError:  # nobody has the other end any more
                    return
