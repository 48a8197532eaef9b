"""The load for tests of rollouts: many listeners at once, in a process of its own.

`python -m tests.load CONFIG.json` sends short requests at a fixed rate (open loop, as probe.py),
plays among them, and listens to songs slowly. On stdin `mark NAME` begins a window called NAME,
`stop` (or the end of stdin) ends the run; progress goes to stderr, and the result, one line of
JSON, to stdout. `load_run.py` starts it, and asks the database what became of the plays.

The configuration:
`base`, `ca`, `connect`: as the probe's. `rate`: short requests a second. `mix`: the weights of
`kept` (a page on a kept connection), `fresh` (on one of its own) and `play` (POST /plays/).
`pages`, `tracks` (slugs): asked in turn. `cookies`, `csrf`: a signed-in listener's. `timeout`: s for
one answer. `limit`: s until it ends by itself. `plays`: the file that gets a line for each play,
`sent UUID` before it is sent and `taken UUID` after its 202. `streams`: null, or `count`, `seconds`
for each, `path` of the song, `content`, a file with the whole of it, and perhaps `length`: bytes to
ask for at a time, else all from some place on.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import ssl
import sys
import threading
import time
import uuid
from contextlib import suppress
from pathlib import Path
from typing import IO, Any

from backline.transport.http_client import Client, HttpError
from tests.load_streams import Streams
from tests.load_tally import Tally, Window

MOST_IN_FLIGHT = 2000
PROGRESS = 10.0
#: Seconds for the requests and the songs that are under way when the run ends.
LAST_ANSWERS = 30.0


class Load:
    """One run. `config` as above; `plays` is open for appending."""

    def __init__(self, config: dict[str, Any], plays: IO[str]) -> None:
        self._config, self._plays = config, plays
        self._client = Client(config["base"], config["ca"], config["connect"])
        self._tally = Tally()
        self._stop = asyncio.Event()
        self._flying: set[asyncio.Task[None]] = set()
        kinds = [kind for kind, weight in config["mix"].items() for _ in range(weight)]
        random.Random(1).shuffle(kinds)
        self._kinds = kinds
        self._asked = {"User-Agent": "backline-load", "Accept": "*/*"}
        self._signed_in = {
            **self._asked,
            "Cookie": config["cookies"],
            "X-CSRFToken": config["csrf"],
            "Origin": config["base"],
            "Referer": config["base"] + "/",
            "Content-Type": "application/x-www-form-urlencoded",
        }
        self._turns = dict.fromkeys(kinds, 0)
        self.taken = 0
        context = ssl.create_default_context(cafile=config["ca"]) if config["ca"] else None
        self._streams = Streams(config, context) if config["streams"] else None

    async def run(self) -> dict[str, Any]:
        """Sends until it is told to stop; the result."""
        loop = asyncio.get_running_loop()
        threading.Thread(target=self._obey, args=(loop,), daemon=True).start()
        ending = loop.call_later(self._config["limit"], self._stop.set)
        progress = asyncio.create_task(self._tell_progress())
        if self._streams:
            self._streams.start()
        await self._send_all()
        ending.cancel()
        progress.cancel()
        if self._flying:
            await asyncio.wait(self._flying, timeout=self._config["timeout"] + 1)
        self._client.close()
        if self._streams:
            await asyncio.to_thread(self._streams.finish, LAST_ANSWERS)
        return {
            **self._tally.report(),
            "plays_taken": self.taken,
            "streams": self._streams.report() if self._streams else None,
            "cpu_s": round(time.process_time(), 2),
        }

    async def _send_all(self) -> None:
        loop, period = asyncio.get_running_loop(), 1 / self._config["rate"]
        start, number = loop.time(), 0
        while not self._stop.is_set():
            due = start + number * period
            if (pause := due - loop.time()) > 0:
                await asyncio.sleep(pause)
                continue
            self._begin(self._kinds[number % len(self._kinds)], due)
            number += 1
            if number % 20 == 0:
                await asyncio.sleep(0)  # answers are read, also by one who is late

    def _begin(self, kind: str, due: float) -> None:
        turn = self._turns[kind]
        self._turns[kind] += 1
        window = self._tally.window
        late = (asyncio.get_running_loop().time() - due) * 1000
        self._tally.latest_ms = max(self._tally.latest_ms, late)
        names = self._config["tracks" if kind == "play" else "pages"]
        name = names[turn % len(names)]
        if len(self._flying) >= MOST_IN_FLIGHT:
            self._tally.add(window, kind, "", late, "overload", None)
            return
        work = (
            self._play(window, name, due) if kind == "play" else self._page(window, kind, name, due)
        )
        task = asyncio.create_task(work)
        self._flying.add(task)
        task.add_done_callback(self._flying.discard)

    async def _page(self, window: Window, kind: str, path: str, due: float) -> None:
        await self._ask(window, kind, "GET", path, due, 200, self._asked)

    async def _play(self, window: Window, track: str, due: float) -> None:
        play = uuid.uuid4()
        self._plays.write(f"sent {play}\n")
        body = f"track={track}&play={play}".encode()
        asked = self._signed_in
        if await self._ask(window, "play", "POST", "/plays/", due, 202, asked, body):
            self._plays.write(f"taken {play}\n")
            self.taken += 1

    async def _ask(
        self,
        window: Window,
        kind: str,
        method: str,
        path: str,
        due: float,
        expected: int,
        headers: dict[str, str],
        body: bytes = b"",
    ) -> bool:
        failure, release = None, None
        try:
            answer = await self._client.request(
                method,
                path,
                headers=headers,
                body=body,
                timeout=self._config["timeout"],
                fresh=kind == "fresh",
            )
            release = answer.headers.get("x-release")
            if answer.status != expected:
                failure = str(answer.status)
        except HttpError as error:
            failure = str(error)
        except Exception as error:  # ours to mend, but no request may vanish
            failure = f"load: {type(error).__name__}: {error}"
        ms = (asyncio.get_running_loop().time() - due) * 1000
        self._tally.add(window, kind, path, ms, failure, release)
        return failure is None

    async def _tell_progress(self) -> None:
        before = 0
        while True:
            await asyncio.sleep(PROGRESS)
            tally, requests = self._tally, self._tally.requests
            said = (
                f"{tally.window.name}: {(requests - before) / PROGRESS:.0f}/s, {requests} requests"
            )
            said += f", {tally.failed} failed, {len(self._flying)} under way, {self.taken} plays"
            if self._streams:
                streams = self._streams.report()
                said += f", {streams['whole']} songs ({streams['failed']} failed)"
            print(said, file=sys.stderr, flush=True)
            before = requests

    def _obey(self, loop: asyncio.AbstractEventLoop) -> None:
        text = b""
        with suppress(RuntimeError):  # the run ended by itself
            while piece := os.read(0, 4096):
                *lines, text = (text + piece).split(b"\n")
                for line in lines:
                    word, _, name = line.decode().strip().partition(" ")
                    if word == "mark":
                        loop.call_soon_threadsafe(self._tally.mark, name)
                    elif word == "stop":
                        loop.call_soon_threadsafe(self._stop.set)
            loop.call_soon_threadsafe(self._stop.set)


def main() -> int:
    """The program: one argument, the configuration's file."""
    config = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    with Path(config["plays"]).open("a", buffering=1, encoding="utf-8") as plays:
        result = asyncio.run(Load(config, plays).run())
    print(json.dumps(result), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
