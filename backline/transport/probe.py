"""The rollout's probe, a process of its own: real requests through the edge, at a fixed rate.

`python -m backline.transport.probe` reads one line of JSON on stdin (see `prober.ProbeConfig`) and
prints a line of JSON for each request:
{"at": when it was due, s since the epoch, "ms": from then to the whole answer, "status", "error",
"release": the answer's X-Release, "path"}.
It ends when stdin closes, on SIGTERM, or after `limit` seconds; requests that are under way then
have a second more, those without an answer by then are left out.

Open loop: request n is due at start + n/rate whether or not those before it were answered, and its
latency counts from that moment, so that a stall shows in every request which it held up. Every
second request has a connection of its own, the others share kept ones. No request is ever repeated.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
import threading
import time
from contextlib import suppress
from typing import Any

from backline.transport.http_client import Client, HttpError

MOST_IN_FLIGHT = 200
LAST_ANSWERS = 1.0


class Probe:
    """One run of the probe; `config` as read from stdin."""

    def __init__(self, config: dict[str, Any]) -> None:
        self._client = Client(config["base"], config["ca"], config["connect"])
        self._period, self._paths = 1 / config["rate"], config["paths"]
        self._timeout, self._limit = config["timeout"], config["limit"]
        self._headers = {"User-Agent": "backline-probe", "Accept": "*/*", **config["headers"]}
        self._stop = asyncio.Event()
        self._flying: set[asyncio.Task[None]] = set()

    def stop(self) -> None:
        """No more requests."""
        self._stop.set()

    async def run(self) -> None:
        """Sends requests until it is stopped."""
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGTERM, self.stop)
        threading.Thread(target=self._watch_stdin, args=(loop,), daemon=True).start()
        ending = loop.call_later(self._limit, self.stop)
        start, number = loop.time(), 0
        while not self._stop.is_set():
            due = start + number * self._period
            if (pause := due - loop.time()) > 0:
                await self._stopped_within(pause)
                continue
            self._begin(number, due)
            number += 1
            await asyncio.sleep(0)
        ending.cancel()
        if self._flying:
            await asyncio.wait(self._flying, timeout=LAST_ANSWERS)
        self._client.close()

    async def _stopped_within(self, pause: float) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(pause):
                await self._stop.wait()

    def _begin(self, number: int, due: float) -> None:
        # Pairs, so that each path is asked on a connection of its own and on a kept one.
        path, fresh = self._paths[number // 2 % len(self._paths)], number % 2 == 1
        if len(self._flying) >= MOST_IN_FLIGHT:
            self._report(due, path, error="overload")
            return
        task = asyncio.create_task(self._ask(path, due, fresh))
        self._flying.add(task)
        task.add_done_callback(self._flying.discard)

    async def _ask(self, path: str, due: float, fresh: bool) -> None:
        try:
            answer = await self._client.request(
                "GET", path, headers=self._headers, timeout=self._timeout, fresh=fresh
            )
        except HttpError as error:
            self._report(due, path, error=str(error))
        except Exception as error:  # ours to mend, but a request that nobody hears of is worse
            self._report(due, path, error=f"probe: {type(error).__name__}: {error}")
        else:
            release = answer.headers.get("x-release")
            self._report(due, path, status=answer.status, release=release)

    def _report(
        self,
        due: float,
        path: str,
        *,
        status: int | None = None,
        error: str | None = None,
        release: str | None = None,
    ) -> None:
        late = asyncio.get_running_loop().time() - due
        line = {
            "at": round(time.time() - late, 6),
            "ms": round(late * 1000, 3),
            "status": status,
            "error": error,
            "release": release,
            "path": path,
        }
        try:
            sys.stdout.write(json.dumps(line) + "\n")
            sys.stdout.flush()
        except OSError:  # nobody reads any more
            self.stop()

    def _watch_stdin(self, loop: asyncio.AbstractEventLoop) -> None:
        while os.read(0, 4096):
            pass
        with suppress(RuntimeError):  # the loop ended by itself
            loop.call_soon_threadsafe(self.stop)


def _first_line() -> str:
    """From the file itself: what lies in a buffer would hide that stdin closes."""
    line = b""
    while not line.endswith(b"\n") and (byte := os.read(0, 1)):
        line += byte
    return line.decode()


def main() -> int:
    """The program; 2 when the configuration is of no use."""
    try:
        probe = Probe(json.loads(_first_line()))
    except (ValueError, KeyError, TypeError, OSError, ZeroDivisionError) as error:
        print(f"the probe's configuration: {type(error).__name__}: {error}", file=sys.stderr)
        return 2
    asyncio.run(probe.run())
    with suppress(OSError):
        sys.stdout.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
