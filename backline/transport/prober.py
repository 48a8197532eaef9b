"""Runs the probe (probe.py) beside a rollout and hands over what it saw."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from contextlib import ExitStack, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import IO, Any

from backline import places
from backline.transport import local
from backline.transport.port import Sample

#: Seconds beyond a request's own timeout after which a probe that says nothing counts as broken.
SILENCE = 5.0


@dataclass(frozen=True)
class ProbeConfig:
    """What to ask, how often, and for how long.

    `base`: `https://host[:port]`. `ca`: the PEM file of its certificate's CA, None for the
    system's. `rate`: requests a second. `paths`: asked in turn. `timeout`: seconds for one answer.
    `connect`: `host:port` to connect to in place of the base's. `limit`: seconds until the probe
    ends by itself, should nobody end it.
    """

    base: str
    ca: Path | None = None
    rate: float = 20.0
    paths: tuple[str, ...] = ("/",)
    timeout: float = 5.0
    headers: dict[str, str] = field(default_factory=dict)
    connect: str | None = None
    limit: float = 7200.0

    def line(self) -> str:
        """As the probe reads it."""
        content = asdict(self) | {"ca": str(self.ca) if self.ca else None}
        return json.dumps(content) + "\n"


class Prober:
    """The probe while it runs; a context manager. Every line it prints is added to `log` as well."""

    def __init__(self, config: ProbeConfig, log: Path | None = None) -> None:
        self._config, self._log = config, log
        self._lock = threading.Lock()
        self._samples: list[Sample] = []
        self._problem: str | None = None
        self._ending = False
        self._heard = time.monotonic()
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Prober:
        with ExitStack() as stack:
            log = stack.enter_context(self._log.open("ab")) if self._log else None
            self._heard = time.monotonic()
            process = self._process = local.start(
                [sys.executable, "-m", "backline.transport.probe"],
                cwd=places.CHECKOUT,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
            )
            kept = stack.pop_all()
        assert process.stdin
        with suppress(BrokenPipeError):  # it died at once: the thread finds out why
            process.stdin.write(self._config.line().encode())
            process.stdin.flush()
        self._thread = threading.Thread(
            target=self._read, args=(process, log, kept), name="probe", daemon=True
        )
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        process = self._process
        assert process and process.stdin
        self._ending = True
        with suppress(BrokenPipeError):
            process.stdin.close()
        try:
            process.wait(local.GRACE_SECONDS)
        except subprocess.TimeoutExpired:
            local.end(process)
        self._thread.join(local.GRACE_SECONDS)

    def samples(self) -> list[Sample]:
        """What came in since the last call, in the order of the answers; from any thread."""
        with self._lock:
            found, self._samples = self._samples, []
        return found

    def trouble(self) -> str | None:
        """Why the probe no longer tells anything, if so: without it nothing is known to be well."""
        if self._problem is None and not self._ending:
            quiet = time.monotonic() - self._heard
            if quiet > self._config.timeout + 1 / self._config.rate + SILENCE:
                return f"the probe has said nothing for {quiet:.0f} s"
        return self._problem

    def _read(
        self, process: subprocess.Popen[bytes], log: IO[bytes] | None, kept: ExitStack
    ) -> None:
        with kept:
            assert process.stdout and process.stderr
            for line in process.stdout:
                self._take(line)
                with suppress(OSError):  # a full disk must not blind the rollout
                    if log:
                        log.write(line)
                        log.flush()
            last = process.stderr.read().decode(errors="replace").strip().splitlines()[-1:]
            code = process.wait()
            if not self._ending:
                why = f": {last[0]}" if last else ""
                self._problem = f"the probe ended with code {code}{why}"
            process.stdout.close()
            process.stderr.close()

    def _take(self, line: bytes) -> None:
        try:
            content: dict[str, Any] = json.loads(line)
            sample = Sample(**content)
        except (ValueError, TypeError):
            return  # the last line of a probe that was killed
        with self._lock:
            self._samples.append(sample)
        self._heard = time.monotonic()
