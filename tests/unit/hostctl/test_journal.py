"""The journal tells the truth, and tells when it cannot."""

from __future__ import annotations

import json
import socket

import pytest

from backline.hostctl import journal

from .fake_host import Lab, environment


def busy(lab: Lab, changes: int = 4) -> None:
    lab.take(message="the big one", actor="ann")
    for number in range(changes):
        lab.ok("drain", action="off" if number % 2 else "on", message="maintenance", actor="ann")


def lines(lab: Lab) -> list[bytes]:
    return journal.path(lab.host, "jukebox").read_bytes().splitlines(keepends=True)


def rewrite(lab: Lab, content: list[bytes]) -> None:
    journal.path(lab.host, "jukebox").write_bytes(b"".join(content))


def test_who_from_where_why_what(lab: Lab) -> None:
    with environment(SSH_CONNECTION="198.18.0.9 5000 198.18.0.1 22", SUDO_USER="deploy"):
        lab.take()
        lab.ok("drain", action="on", actor="ann", message="new\nfans\x07")
    entry = lab.journal()[-1]
    assert entry["actor"] == "ann" and entry["origin"] == "198.18.0.9"
    assert entry["message"] == "new fans "
    assert (entry["verb"], entry["action"], entry["run"], entry["token"]) == (
        "drain", "on", "run-1", 1
    )  # fmt: skip
    assert lab.journal()[0]["actor"] == "deploy"


def test_the_chain_holds(lab: Lab) -> None:
    busy(lab)
    answer = lab.ok("journal", after=2)
    assert answer["intact"] is True and answer["problem"] is None
    assert [entry["seq"] for entry in answer["entries"]] == [3, 4, 5]
    assert [entry["seq"] for entry in lab.ok("journal", limit=1)["entries"]] == [1]


@pytest.mark.parametrize("number", [0, 1, 2, 3, 4])
def test_an_edited_line_is_found(lab: Lab, number: int) -> None:
    busy(lab)
    content = lines(lab)
    content[number] = content[number].replace(b'"actor":"ann"', b'"actor":"bob"')
    rewrite(lab, content)
    assert lab.ok("journal")["intact"] is False


def test_an_edited_line_with_its_hash_made_right_is_found(lab: Lab) -> None:
    busy(lab)
    content = lines(lab)
    entry = json.loads(content[1])
    entry["actor"] = "bob"
    entry["hash"] = journal.digest(entry)
    content[1] = json.dumps(entry).encode() + b"\n"
    rewrite(lab, content)
    assert "line 3" in lab.ok("journal")["problem"]


def test_a_dropped_and_a_reordered_line_are_found(lab: Lab) -> None:
    busy(lab)
    whole = lines(lab)
    rewrite(lab, whole[:1] + whole[2:])
    assert "line 2" in lab.ok("journal")["problem"]
    rewrite(lab, [whole[0], whole[2], whole[1], *whole[3:]])
    assert lab.ok("journal")["intact"] is False


def test_a_line_that_lacks_only_its_end_is_whole(lab: Lab) -> None:
    busy(lab)
    content = lines(lab)
    rewrite(lab, [*content[:-1], content[-1].rstrip(b"\n")])
    busy(lab, changes=1)
    answer = lab.ok("journal")
    assert answer["intact"] is True, answer["problem"]
    assert content[-1] in lines(lab)


@pytest.mark.parametrize(
    "torn", [b'{"seq": 6, "ver', b"\0\0\0\0", b"\0\0\n", b"\xff\r\xfe", b"{}\n"]
)
def test_a_torn_last_line_is_kept_and_accounted_for(lab: Lab, torn: bytes) -> None:
    busy(lab)
    rewrite(lab, [*lines(lab), torn])
    assert lab.ok("journal")["intact"] is False
    lab.ok("drain", action="on")
    lab.ok("drain", action="off")
    raw = journal.path(lab.host, "jukebox").read_bytes()
    assert torn in raw
    answer = lab.ok("journal")
    assert answer["intact"] is True, answer["problem"]
    recovered = answer["entries"][5]
    assert recovered["verb"] == "journal.recovered" and recovered["torn_bytes"] == len(torn)
    assert [entry["seq"] for entry in answer["entries"]] == list(range(1, 9))


def test_torn_bytes_changed_afterwards_are_found(lab: Lab) -> None:
    busy(lab)
    rewrite(lab, [*lines(lab), b"torn"])
    lab.ok("drain", action="on")
    rewrite(lab, [line.replace(b"torn\n", b"worn\n") for line in lines(lab)])
    assert lab.ok("journal")["intact"] is False


def test_journald_gets_structured_entries_of_changes_and_refusals(lab: Lab) -> None:
    folder = lab.path("run/systemd/journal")
    folder.mkdir(parents=True)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as journald:
        journald.bind(str(folder / "socket"))
        lab.take(actor="ann", message="line one\nMESSAGE=forged")
        first = journald.recv(65536)
        lab.refused("drain", action="on", token=9)
        second = journald.recv(65536)
    assert b"SYSLOG_IDENTIFIER\n" in first and b"BACKLINE_ACTOR\n\x03" in first
    assert b"\nMESSAGE=forged" not in first
    assert b"lease_held" in second and b"PRIORITY\n\x01\0\0\0\0\0\0\x004\n" in second
