"""fetch: a host pulls a release by itself, goes on where it ended, and tells no secret."""

from __future__ import annotations

import http.server
import json
import os
import pwd
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from backline.hostctl.host import Completed

from .fake_host import R1, R2, R3, Lab

NAMES = (f"{R1}.tar.zst", f"{R1}.release.json", f"{R1}.release.json.sig")
SECRET = "X-Signature=s3cret"


class Store(http.server.ThreadingHTTPServer):
    """An HTTP store of the files in `folder`, with the faults that real ones have."""

    daemon_threads = True

    def __init__(self, folder: Path) -> None:
        super().__init__(("127.0.0.1", 0), Answer)
        self.folder = folder
        self.asked: list[tuple[str, str]] = []
        self.ranges = True  # False: ranges are not understood
        self.cut = 0  # bytes after which the connection is dropped, once
        self.flood = False  # no Content-Length, and no end
        self.redirects = ""

    def handle_error(self, *_: object) -> None:
        """A client that hangs up is what some tests are about."""

    def url(self, name: str) -> str:
        return f"http://user:pw@127.0.0.1:{self.server_address[1]}/{name}?{SECRET}"


class Answer(http.server.BaseHTTPRequestHandler):
    server: Store

    def do_GET(self) -> None:
        store, begin = self.server, self.headers.get("Range", "")
        store.asked.append((self.path, begin))
        path = store.folder / self.path.partition("?")[0].lstrip("/")
        if store.redirects or not path.is_file():
            self.send_response(302 if store.redirects else 404)
            self.send_header("Location", store.redirects)
            self.end_headers()
            return
        content = path.read_bytes()
        start = int(begin[len("bytes=") :].rstrip("-")) if begin and store.ranges else 0
        self.send_response(206 if start else 200)
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
        if not store.flood:
            self.send_header("Content-Length", str(len(content) - start))
        self.end_headers()
        cut, store.cut = store.cut or len(content), 0
        self.wfile.write(content[start:cut])
        while store.flood:
            self.wfile.write(bytes(65536))

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def store(lab: Lab) -> Iterator[Store]:
    """A store that has R1; the lease is taken."""
    folder = lab.upload()
    kept = lab.path("store")
    folder.rename(kept)
    folder.mkdir()
    lab.take(lifetime=3600)
    made = Store(kept)
    threading.Thread(target=made.serve_forever, args=(0.02,), daemon=True).start()
    yield made
    made.shutdown()
    made.server_close()


def files(store: Store, *names: str) -> list[dict[str, object]]:
    return [
        {"name": name, "url": store.url(name), "size": (store.folder / name).stat().st_size}
        for name in names or NAMES
    ]


def test_what_was_fetched_is_staged(lab: Lab, store: Store) -> None:
    total = sum(path.stat().st_size for path in store.folder.iterdir())
    answer = lab.ok("fetch", release=R1, files=files(store))
    assert answer == {"ok": True, "fetched": total, "already": []}
    assert lab.ok("fetch", release=R1, files=files(store))["already"] == list(NAMES)
    assert len(store.asked) == 3
    lab.ok("stage", release=R1)
    assert lab.ok("fetch", release=R1, files=files(store))["already"] == list(NAMES)
    assert len(store.asked) == 3 and list(lab.host.incoming.iterdir()) == []
    assert [e["event"] for e in lab.journal()] == ["take", "begin", "done", "begin", "done"]


def test_a_cut_connection_is_gone_on_with(lab: Lab, store: Store) -> None:
    store.cut = 100
    assert lab.refused("fetch", release=R1, files=files(store, NAMES[1])) == (1, "fetch_failed")
    partial = lab.host.incoming / f".{NAMES[1]}.part"
    assert partial.stat().st_size == 100
    size = (store.folder / NAMES[1]).stat().st_size
    assert lab.ok("fetch", release=R1, files=files(store, NAMES[1]))["fetched"] == size - 100
    assert store.asked[-1][1] == "bytes=100-"
    assert not partial.exists()
    assert (lab.host.incoming / NAMES[1]).read_bytes() == (store.folder / NAMES[1]).read_bytes()


def test_a_server_without_ranges_is_asked_for_all_of_it(lab: Lab, store: Store) -> None:
    store.ranges = False
    (lab.host.incoming / f".{NAMES[1]}.part").write_bytes(b"x" * 50)
    lab.ok("fetch", release=R1, files=files(store, NAMES[1]))
    assert (lab.host.incoming / NAMES[1]).read_bytes() == (store.folder / NAMES[1]).read_bytes()


@pytest.mark.parametrize("flood", [False, True])
def test_more_than_was_announced_is_cut_off(lab: Lab, store: Store, flood: bool) -> None:
    store.flood = flood
    listed = files(store, NAMES[1])
    listed[0]["size"] = 10
    status, answer = lab.call("fetch", release=R1, files=listed)
    assert (status, answer["error"]["code"]) == (1, "fetch_failed")
    assert all(path.stat().st_size <= 10 for path in lab.host.incoming.iterdir())


def test_less_than_was_announced_is_no_file(lab: Lab, store: Store) -> None:
    listed = files(store, NAMES[1])
    listed[0]["size"] = 10**6
    assert lab.refused("fetch", release=R1, files=listed) == (1, "fetch_failed")
    assert list(lab.host.incoming.iterdir()) == []


@pytest.mark.parametrize("target", ["file:///etc/passwd", "ftp://127.0.0.1/x", "/again"])
def test_redirects_stay_with_http_and_end(lab: Lab, store: Store, target: str) -> None:
    store.redirects = target
    assert lab.refused("fetch", release=R1, files=files(store, NAMES[1])) == (1, "fetch_failed")
    assert len(store.asked) <= 4 and list(lab.host.incoming.iterdir()) == []


def test_secrets_are_in_no_journal_no_command_line_and_no_answer(
    lab: Lab, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, lines = lab.host.run, []

    def watch(argv: Any, **options: Any) -> Completed:
        lines.append(" ".join(argv))
        return real(argv, **options)

    monkeypatch.setattr(lab.host, "run", watch)
    lab.ok("fetch", release=R1, files=files(store))
    (store.folder / NAMES[0]).rename(store.folder / "gone")
    listed = [{"name": f"{R2}.tar.zst", "url": store.url("missing"), "size": 5}]
    status, answer = lab.call("fetch", release=R2, files=listed)
    assert status == 1 and "404" in answer["error"]["message"]
    said = json.dumps(answer) + json.dumps(lab.journal()) + "\n".join(lines)
    assert "s3cret" not in said and "pw@" not in said
    assert "curl" in said and f"/{NAMES[0]}" in json.dumps(lab.journal())


@pytest.mark.parametrize(
    "change",
    [
        {"name": "hostctl"},
        {"name": f"{R2}.tar.zst"},
        {"name": f"../{R1}.tar.zst"},
        {"name": 7},
        {"url": "file:///etc/passwd"},
        {"url": 'http://x/"\noutput = "/etc/passwd'},
        {"url": "http://x/a b"},
        {"url": "http://x/\\"},
        {"url": 7},
        {"size": 0},
        {"size": "5"},
        {"odd": 1},
    ],
)
def test_odd_files_are_refused(lab: Lab, store: Store, change: dict[str, object]) -> None:
    listed = [{**files(store, NAMES[0])[0], **change}]
    assert lab.refused("fetch", release=R1, files=listed) == (2, "bad_field")
    assert store.asked == []


def test_the_same_name_twice_or_no_file_at_all(lab: Lab, store: Store) -> None:
    odd: list[object] = [files(store, NAMES[0], NAMES[0]), [], {}, None]
    for listed in odd:
        assert lab.refused("fetch", release=R1, files=listed) == (2, "bad_field")


def test_a_patch_is_fetched_under_its_own_name(lab: Lab, store: Store) -> None:
    name = f"{R1}.from-{R2}.patch.zst"
    (store.folder / NAMES[0]).rename(store.folder / name)
    assert lab.refused("fetch", release=R2, files=files(store, name)) == (2, "bad_field")
    assert lab.refused("fetch", release=R1, base=R3, files=files(store, name))[0] == 2
    assert lab.refused("fetch", release=R1, files=files(store, name, name))[0] == 2
    lab.ok("fetch", release=R1, base=R2, files=files(store, name))
    assert (lab.host.incoming / name).exists()
    assert lab.ok("fetch", release=R1, files=files(store, name))["already"] == [name]


def test_the_owner_of_the_uploads_downloads(lab: Lab, store: Store) -> None:
    if os.geteuid() != 0:
        pytest.skip("needs root")
    nobody = pwd.getpwnam("nobody")
    lab.root.chmod(0o755)
    os.chown(lab.host.incoming, nobody.pw_uid, nobody.pw_gid)
    lab.host.become = True
    lab.ok("fetch", release=R1, files=files(store))
    for name in NAMES:
        found = (lab.host.incoming / name).stat()
        assert (found.st_uid, found.st_gid) == (nobody.pw_uid, nobody.pw_gid)
    lab.ok("stage", release=R1)


def test_a_folder_of_uploads_that_is_roots_is_refused(lab: Lab, store: Store) -> None:
    if lab.host.incoming.stat().st_uid != 0:
        pytest.skip("needs root")
    lab.host.become = True
    assert lab.refused("fetch", release=R1, files=files(store)) == (1, "bad_settings")
    assert store.asked == []


def test_partials_that_nobody_came_back_for_are_pruned(lab: Lab, store: Store) -> None:
    partial = lab.host.incoming / f".{NAMES[0]}.part"
    partial.touch()
    os.utime(partial, (1, 1))
    lab.ok("prune")
    assert not partial.exists()
