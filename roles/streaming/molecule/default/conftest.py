"""Requests to the host, and the web processes of two releases on it."""

from __future__ import annotations

import hashlib
import re
import shlex
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

OLD, NEW = "20260101T000000Z-aaaaaaa", "20260102T000000Z-bbbbbbb"


@dataclass
class Answer:
    """What came back: headers by lower-case name, the body's SHA-256 and its first bytes."""

    status: int
    headers: dict[str, str]
    sha256: str
    text: str

    def holds(self, content: bytes) -> bool:
        """Whether the body is exactly this."""
        return self.sha256 == hashlib.sha256(content).hexdigest()


@pytest.fixture
def get(host) -> Callable[..., Answer]:
    """`get(path, *curl_options, to="127.0.0.1:8080")`: one request, made on the host."""

    def get(path: str, *options: str, to: str = "127.0.0.1:8080") -> Answer:
        words = " ".join(shlex.quote(word) for word in (*options, f"http://{to}{path}"))
        done = host.run(
            "cd $(mktemp -d) && touch body && curl -sS --max-time 30 -D head -o body "
            + words
            + " && cat head && sha256sum <body && head -c 20000 body | tr -d '\\0'"
        )
        assert done.rc == 0, done.stderr
        head, rest = done.stdout_bytes.replace(b"\r\n", b"\n").split(b"\n\n", 1)
        lines = head.decode().splitlines()
        headers = dict(
            line.lower().split(": ", 1)[:1] + line.split(": ", 1)[1:] for line in lines[1:]
        )
        digest, body = rest.split(b"\n", 1)
        return Answer(
            int(lines[0].split()[1]),
            headers,
            digest.split()[0].decode(),
            body.decode(errors="replace"),
        )

    return get


@pytest.fixture
def address(host) -> str:
    """The host's address in the fleet, from which nobody is trusted."""
    found = re.search(r"src (\S+)", host.run("ip route get 198.51.100.1").stdout)
    assert found
    return found[1]


def live(host, release: str) -> None:
    """What hostctl does: the link is replaced by one rename."""
    link = f"ln -sfn {release}.sock /run/jukebox/.next && mv -T /run/jukebox/.next "
    assert host.run(link + "/run/jukebox/current.sock").rc == 0


@pytest.fixture(autouse=True, scope="module")
def releases(host) -> Iterator[None]:
    """Both releases run, the old one is live."""
    host.run("rm -f /run/backline/drain")
    for release in (OLD, NEW):
        started = host.run(f"systemctl start jukebox-web@{release}")
        assert started.rc == 0, host.run(f"journalctl -n 30 -u jukebox-web@{release}").stdout
    live(host, OLD)
    yield
    host.run(f"systemctl stop jukebox-web@{OLD} jukebox-web@{NEW}")
