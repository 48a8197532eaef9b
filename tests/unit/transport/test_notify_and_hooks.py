"""The webhook never holds a run up nor shows its address; hooks run with what they need to know."""

from __future__ import annotations

import http.server
import json
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from backline.errors import BacklineError
from backline.transport import hooks, notify
from backline.transport.hooks import Hooks
from backline.transport.notify import Notifier


class Receiver(http.server.BaseHTTPRequestHandler):
    """Keeps what is posted; /fails refuses it, /once refuses the first, /hangs never answers."""

    got: list[dict[str, object]] = []

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.got.append(body)
        if self.path.startswith("/hangs"):
            threading.Event().wait(3)
        bad = self.path.startswith("/fails") or (self.path == "/once" and len(self.got) == 1)
        self.send_response(500 if bad else 204)
        self.end_headers()

    def log_message(self, *words: object) -> None:
        pass


@pytest.fixture
def address(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    monkeypatch.setattr(Receiver, "got", [])
    monkeypatch.setattr(notify.time, "sleep", lambda seconds: None)
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Receiver)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def test_everything_is_told_in_order(address: str) -> None:
    with Notifier(f"{address}/hook") as notifier:
        for number in range(5):
            notifier.tell({"event": "phase", "number": number, "path": Path("/x")})
    assert [body["number"] for body in Receiver.got] == [0, 1, 2, 3, 4]
    assert notifier.trouble == ""


def test_what_failed_once_is_sent_again(address: str) -> None:
    with Notifier(f"{address}/once") as notifier:
        notifier.tell({"number": 1})
    assert [body["number"] for body in Receiver.got] == [1, 1] and notifier.trouble == ""


@pytest.mark.parametrize(
    "secret", ["{}/fails?token=s3cret", "http://127.0.0.1:1/s3cret", "s3cret://nowhere", "http://s3cret bad/"]
)  # fmt: skip
def test_trouble_never_shows_the_address(address: str, secret: str) -> None:
    with Notifier(secret.format(address)) as notifier:
        notifier.tell({"number": 1})
    assert notifier.trouble and "s3cret" not in notifier.trouble
    assert "127.0.0.1" not in notifier.trouble


def test_a_receiver_that_hangs_holds_nobody_up(
    address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(notify, "LAST_SECONDS", 0.3)
    began = time.monotonic()
    with Notifier(f"{address}/hangs") as notifier:
        notifier.tell({"number": 1})
        assert time.monotonic() - began < 0.2
    assert time.monotonic() - began < 1.5 and "no answer" in notifier.trouble


def test_a_hook_is_told_what_happens(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BACKLINE_ROOT", str(tmp_path))
    line = 'echo "$BACKLINE_PHASE $BACKLINE_RUN $BACKLINE_HOSTS" > said'
    known = Hooks({"before-batch": line})
    assert known.wants("before-batch") and not known.wants("after-batch")
    assert known.run("before-batch", {"run": "run-1", "hosts": "a,b"}) == ""
    assert (tmp_path / "said").read_text() == "before-batch run-1 a,b\n"


def test_a_hook_that_says_no_says_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BACKLINE_ROOT", str(tmp_path))
    known = Hooks({"before-batch": "echo freeze until Monday >&2; exit 7"})
    assert known.run("before-batch", {}) == "exit code 7: freeze until Monday"


def test_a_hook_that_hangs_is_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BACKLINE_ROOT", str(tmp_path))
    monkeypatch.setattr(hooks, "SECONDS", 0.3)
    assert Hooks({"before-stage": "sleep 60"}).run("before-stage", {})


def test_a_phase_that_does_not_exist_is_refused() -> None:
    with pytest.raises(BacklineError, match="before-lunch") as raised:
        Hooks({"before-lunch": "true"})
    assert "before-batch" in raised.value.hint
