"""The rollout's probe as it runs: a process of its own, watched through Prober."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from backline import places
from backline.rollout.sample import Sample
from backline.transport.prober import ProbeConfig, Prober
from tests.http_server import Server


@pytest.fixture
def server() -> Iterator[Server]:
    server = Server()
    yield server
    server.stop()


def watch(prober: Prober, enough: Callable[[list[Sample]], bool], limit: float = 8) -> list[Sample]:
    """Drains samples until they are enough."""
    found: list[Sample] = []
    deadline = time.monotonic() + limit
    while not enough(found):
        assert time.monotonic() < deadline, (found[-3:], prober.trouble())
        time.sleep(0.02)
        found += prober.samples()
    return found


def config(server: Server, **options: Any) -> ProbeConfig:
    return ProbeConfig(**{"base": server.base, "rate": 50.0, "limit": 20.0, **options})


def test_every_answer_is_told_with_its_release(server: Server, tmp_path: Path) -> None:
    log = tmp_path / "probe.ndjson"
    began = time.time()
    with Prober(config(server, paths=("/", "/broken")), log) as prober:
        found = watch(prober, lambda samples: len(samples) >= 40)
        assert prober.trouble() is None
    assert prober.trouble() is None, "ended by us: no trouble"
    assert {(s.path, s.status, s.release, s.ok) for s in found} == {
        ("/", 200, "r1", True),
        ("/broken", 500, "r2", False),
    }
    gaps = [b.at - a.at for a, b in zip(found, found[1:], strict=False)]
    assert all(abs(gap - 0.02) < 0.002 for gap in gaps), "due times are evenly spaced"
    assert began < found[0].at < time.time()
    assert len(log.read_text().splitlines()) == len(server.requests)


def test_half_of_the_requests_have_a_connection_of_their_own(server: Server) -> None:
    with Prober(config(server, paths=("/", "/broken"))) as prober:
        watch(prober, lambda samples: len(samples) >= 40)
    first = server.requests[:40]
    assert Counter(path for number, path in first) == {"/": 20, "/broken": 20}
    per_connection = Counter(number for number, _ in first)
    assert sum(count == 1 for count in per_connection.values()) >= 19
    assert max(per_connection.values()) >= 15, "the others share kept ones"


def test_a_stall_of_the_server_delays_no_later_request_and_shows(server: Server) -> None:
    with Prober(config(server, paths=("/slow", "/"), rate=40.0)) as prober:
        found = watch(prober, lambda samples: len(samples) >= 60)
    slow = [s for s in found if s.path == "/slow"]
    assert all(500 <= s.ms < 900 for s in slow) and all(s.ok for s in found)
    quick = sorted(s.ms for s in found if s.path == "/")
    assert quick[len(quick) // 2] < 100


@pytest.mark.parametrize(
    ("path", "text"),
    [("/reset", "reset: "), ("/short", "truncated: 3 of 5 bytes"), ("/drip", "timeout: ")],
)
def test_each_fault_is_an_error_by_name(server: Server, path: str, text: str) -> None:
    with Prober(config(server, paths=(path,), timeout=0.4)) as prober:
        found = watch(prober, lambda samples: len(samples) >= 10)
    assert all((s.error or "").startswith(text) for s in found), found[0]
    assert not any(s.ok for s in found)
    assert all(s.status is None and s.release is None for s in found)


def test_a_kept_connection_closed_while_idle_is_no_failure(server: Server) -> None:
    with Prober(config(server, paths=("/goes",), rate=8.0)) as prober:
        found = watch(prober, lambda samples: len(samples) >= 16)
    assert all(s.ok for s in found), found


def test_too_many_unanswered_requests_count_as_overload(server: Server) -> None:
    with Prober(config(server, paths=("/stall",), rate=400.0, timeout=10.0)) as prober:
        found = watch(prober, lambda samples: len(samples) >= 50)
        assert {s.error for s in found} == {"overload"}
        assert server.connections <= 200


def test_a_probe_that_dies_is_noticed(server: Server) -> None:
    with Prober(config(server)) as prober:
        watch(prober, lambda samples: len(samples) >= 2)
        process = prober._process
        assert process
        os.kill(process.pid, signal.SIGKILL)
        deadline = time.monotonic() + 3
        while prober.trouble() is None and time.monotonic() < deadline:
            time.sleep(0.02)
        assert prober.trouble() == "the probe ended with code -9"


def test_a_frozen_probe_is_noticed(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("backline.transport.prober.SILENCE", 0.3)
    with Prober(config(server, timeout=0.3)) as prober:
        watch(prober, lambda samples: len(samples) >= 2)
        process = prober._process
        assert process
        os.kill(process.pid, signal.SIGSTOP)
        time.sleep(1)
        assert "nothing for" in (prober.trouble() or "")
        os.kill(process.pid, signal.SIGCONT)


def test_a_configuration_of_no_use_is_told(server: Server) -> None:
    with Prober(config(server, base="https://127.0.0.1:1", ca=Path("/nowhere.pem"))) as prober:
        deadline = time.monotonic() + 3
        while prober.trouble() is None and time.monotonic() < deadline:
            time.sleep(0.02)
        assert "No such file" in (prober.trouble() or "")


@pytest.mark.parametrize("how", ["stdin", "SIGTERM", "limit"])
def test_it_ends_when_told_and_when_nobody_tells(server: Server, how: str) -> None:
    """Also when the engine was killed: its end of the pipe closes then."""
    process = subprocess.Popen(
        [sys.executable, "-m", "backline.transport.probe"],
        cwd=places.CHECKOUT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert process.stdin and process.stdout
    limit = 0.5 if how == "limit" else 30
    process.stdin.write(config(server, limit=limit, paths=("/", "/slow")).line().encode())
    process.stdin.flush()
    first = process.stdout.readline()
    assert first.startswith(b'{"at"')
    if how == "stdin":
        process.stdin.close()
    elif how == "SIGTERM":
        process.terminate()
    rest = process.stdout.read().splitlines()
    assert process.wait(5) == 0
    assert len(rest) + 1 == len(server.requests), "requests under way were waited for"
    process.stdout.close()
    if not process.stdin.closed:
        process.stdin.close()


def test_it_starts_soon() -> None:
    """The rollout waits for it; modules that nobody needs here cost a listener's patience."""
    script = "import sys, backline.transport.probe; print(*{m.split('.')[0] for m in sys.modules})"
    done = subprocess.run(
        [sys.executable, "-c", script],
        cwd=places.CHECKOUT,
        capture_output=True,
        text=True,
        check=True,
    )
    third = {"pydantic", "rich", "invoke", "fabric", "paramiko", "ansible", "http", "email"}
    assert not set(done.stdout.split()) & third
