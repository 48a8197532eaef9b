"""A listener of the sample application: signs in through the edge, plays songs, keeps asking.

Used by `inv demo` and the fleet's tests. Standard library only; it never retries, so that every
failed request is seen.
"""

from __future__ import annotations

import http.client
import http.cookiejar
import json
import re
import secrets
import ssl
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from backline.errors import BacklineError
from backline.lab.secrets import write_private

FORM_TOKEN = re.compile(r'name="csrfmiddlewaretoken" value="([^"]+)"')
TIMEOUT = 10.0


class Listener:
    """One listener with cookies, talking HTTPS to `base` (such as https://localhost:8443).

    `ca`: the PEM file of the CA that signed the edge's certificate.
    """

    def __init__(self, base: str, ca: Path) -> None:
        self.base = base.rstrip("/")
        self.context = ssl.create_default_context(cafile=str(ca))
        self.jar = http.cookiejar.CookieJar()
        self._opener = urllib.request.build_opener(
            urllib.request.ProxyHandler({}),
            urllib.request.HTTPSHandler(context=self.context),
            urllib.request.HTTPCookieProcessor(self.jar),
        )

    def get(self, path: str, headers: dict[str, str] | None = None) -> tuple[int, bytes, str]:
        """(status, body, type) of a page; statuses over 399 are returned, not raised."""
        return self._send(urllib.request.Request(self.base + path, headers=headers or {}))  # noqa: S310

    def post_form(self, path: str, **fields: str) -> tuple[int, bytes, str]:
        """Fetches the form at `path`, fills it in with its CSRF token, and sends it."""
        _, page, _ = self.get(path)
        token = FORM_TOKEN.search(page.decode())
        if token is None:
            raise BacklineError(
                f"no form at {self.base}{path}", hint="is the application deployed?"
            )
        body = urllib.parse.urlencode({"csrfmiddlewaretoken": token[1], **fields}).encode()
        headers = {"Referer": self.base + path, "Origin": self.base}
        return self._send(urllib.request.Request(self.base + path, body, headers))  # noqa: S310

    def sign_up(self, name: str = "") -> str:
        """Makes an account with a random password, signed in; returns its name."""
        name = name or f"listener-{secrets.token_hex(4)}"
        password = secrets.token_urlsafe(16)
        status, page, _ = self.post_form(
            "/sign-up/", username=name, password1=password, password2=password
        )
        if status != 200 or not any(cookie.name == "sessionid" for cookie in self.jar):
            raise BacklineError(
                f"signing up as {name} answered {status}", hint=page.decode()[-300:]
            )
        return name

    def save_cookies(self, path: Path) -> None:
        """Writes the listener's cookies for curl, readable by their owner alone.

        The standard library's own writer calls a host without dots `localhost.local`.
        """
        host = urllib.parse.urlsplit(self.base).hostname
        lines = ["# Netscape HTTP Cookie File"]
        lines += [f"{host}\tFALSE\t/\tTRUE\t0\t{entry.name}\t{entry.value}" for entry in self.jar]
        write_private(path, "\n".join(lines) + "\n")

    def _send(self, request: urllib.request.Request) -> tuple[int, bytes, str]:
        try:
            with self._opener.open(request, timeout=TIMEOUT) as answer:
                return answer.status, answer.read(), answer.headers.get("Content-Type", "")
        except urllib.error.HTTPError as error:
            return error.code, error.read(), error.headers.get("Content-Type", "")


@dataclass
class Tally:
    """What a crowd of requests saw. `failures`: what and how often; `releases`: ID → answers."""

    requests: int = 0
    failures: Counter[str] = field(default_factory=Counter)
    releases: Counter[str] = field(default_factory=Counter)
    slowest_ms: float = 0.0
    song_bytes: int = 0

    @property
    def failed(self) -> int:
        return sum(self.failures.values())


class Crowd:
    """Keeps asking through the edge, at a fixed rate, until it is told to stop.

    Each of `threads` asks in turn for the release's version, a page, and a range of a song, on new
    connections every time. At most `limit` seconds.
    """

    def __init__(self, listener: Listener, song: str, threads: int = 4, rate: float = 40.0) -> None:
        self.listener, self.song = listener, song
        self.tally = Tally()
        self._lock, self._stop = threading.Lock(), threading.Event()
        self._pause = threads / rate
        self._threads = [
            threading.Thread(target=self._run, args=(number,), daemon=True)
            for number in range(threads)
        ]
        self._deadline = 0.0

    def start(self, limit: float = 600.0) -> Crowd:
        self._deadline = time.monotonic() + limit
        for thread in self._threads:
            thread.start()
        return self

    def stop(self) -> Tally:
        self._stop.set()
        for thread in self._threads:
            thread.join(TIMEOUT * 2)
        return self.tally

    def _run(self, number: int) -> None:
        url = urllib.parse.urlsplit(self.listener.base)
        cookies = "; ".join(f"{cookie.name}={cookie.value}" for cookie in self.listener.jar)
        asks: tuple[tuple[str, dict[str, str], int], ...] = (
            ("/version", {}, 200),
            ("/", {"Cookie": cookies}, 200),
            (self.song, {"Cookie": cookies, "Range": "bytes=1000-65535"}, 206),
        )
        due = time.monotonic()
        turn = number
        while not self._stop.is_set() and time.monotonic() < self._deadline:
            path, headers, expected = asks[turn % len(asks)]
            self._ask(url.hostname or "", url.port or 443, path, headers, expected)
            turn += 1
            due += self._pause
            self._stop.wait(max(0.0, due - time.monotonic()))

    def _ask(self, host: str, port: int, path: str, headers: dict[str, str], expected: int) -> None:
        started = time.monotonic()
        problem, release, length = "", "", 0
        connection = http.client.HTTPSConnection(
            host, port, timeout=TIMEOUT, context=self.listener.context
        )
        try:
            connection.request("GET", path, headers=headers)
            answer = connection.getresponse()
            body = answer.read()
            if answer.status != expected:
                problem = f"{path}: {answer.status}"
            elif path == "/version":
                release = json.loads(body).get("release") or ""
            elif expected == 206:
                length = len(body)
        except (OSError, http.client.HTTPException, ValueError) as error:
            problem = f"{path}: {type(error).__name__}"
        finally:
            connection.close()
        with self._lock:
            self.tally.requests += 1
            self.tally.slowest_ms = max(self.tally.slowest_ms, 1000 * (time.monotonic() - started))
            self.tally.song_bytes += length
            if problem:
                self.tally.failures[problem] += 1
            if release:
                self.tally.releases[release] += 1
