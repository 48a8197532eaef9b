"""What arrives on stdin: names become paths and unit names, so nothing odd gets through."""

from __future__ import annotations

import json
from typing import Any

import pytest

from backline.hostctl import cli
from backline.hostctl.verbs import VERBS

from .fake_host import R1, Lab

LEASELESS = (
    "lease",
    "want",
    "update",
    "balance",
    "database",
    "proxy",
    "backup",
    "jobs",
    "maintenance",
    "cache",
)
MORE: dict[str, dict[str, Any]] = {
    "drain": {"action": "on"},
    "fetch": {"files": [{"name": f"{R1}.release.json", "url": "http://x/y", "size": 1}]},
    "note": {"note": {"text": "hello"}},
    "quarantine": {"action": "set", "hosts": {}},
}
ODD_NAMES = ["", "../etc", "a/b", "Jukebox", "-x", "a b", "a\n", "a\0", "é", "a" * 40, 7, None, []]


@pytest.mark.parametrize("name", [*ODD_NAMES, "incoming"])
def test_odd_app_names_are_refused(lab: Lab, name: object) -> None:
    assert lab.refused("lease", action="show", app=name)[0] == 2


@pytest.mark.parametrize(
    "release",
    [
        "",
        "..",
        "20261122T190500Z-1a2b3c4/..",
        "20261122T190500Z-1A2B3C4",
        "20261122T190500Z-1a2b3c4\n",
        "٢0261122T190500Z-1a2b3c4",  # a digit for Unicode, not for us
        "20261122T190500Z-1a2b3c4 --now",
    ],
)
def test_odd_release_ids_are_refused(lab: Lab, release: str) -> None:
    lab.take()
    for verb in ("stage", "start", "check", "switch", "stop", "migrate", "mark"):
        fields = {"process": "web", "phase": "expand", "state": "good"}
        accepted = {k: v for k, v in fields.items() if k in VERBS[verb].fields}
        assert lab.refused(verb, release=release, **accepted)[0] == 2


@pytest.mark.parametrize("process", ODD_NAMES)
def test_odd_process_names_are_refused(lab: Lab, process: object) -> None:
    lab.plant(R1)
    lab.take()
    status, code = lab.refused("start", release=R1, process=process)
    assert (status, code) == (2, "bad_field") or code == "unknown_process"
    assert not lab.systemd.units


@pytest.mark.parametrize(
    "raw",
    [
        b"{",
        b"[]",
        b"null",
        b'"facts"',
        b"\xff\xfe",
        b"[" * 200_000,
        b'{"app": "a", "app": "b"}',
        b'{"token": NaN}',
        b'{"token": ' + b"9" * 10_000 + b"}",
        b" " * (cli.STDIN_LIMIT + 1),
    ],
)
def test_malformed_requests_are_one_clear_error(lab: Lab, raw: bytes) -> None:
    status, answer = lab.call("facts", raw=raw)
    assert status == 2
    assert set(answer["error"]) >= {"code", "message", "hint"}


def test_no_request_at_all_is_an_empty_one(lab: Lab) -> None:
    assert lab.call("facts", raw=b"")[0] == 0


def test_a_misspelt_field_is_refused_instead_of_ignored(lab: Lab) -> None:
    assert lab.refused("stop", release=R1, process="web", forced=True) == (2, "unknown_field")


def test_unknown_verb(lab: Lab) -> None:
    assert lab.refused("destroy") == (2, "unknown_verb")


@pytest.mark.parametrize("token", [0, -1, 1.5, True, "1", None, 2**60])
def test_tokens_are_positive_whole_numbers(lab: Lab, token: object) -> None:
    assert lab.refused("lease", action="take", token=token)[0] == 2


def test_unknown_app_and_process_say_what_exists(lab: Lab) -> None:
    lab.plant(R1)
    lab.take()
    _, answer = lab.call("status", app="radio")
    assert answer["error"]["code"] == "unknown_app" and "jukebox" in answer["error"]["message"]
    _, answer = lab.call("start", process="wbe", release=R1)
    assert answer["error"]["code"] == "unknown_process" and "web" in answer["error"]["message"]


def test_an_internal_fault_is_still_json(lab: Lab, capsys: pytest.CaptureFixture[str]) -> None:
    lab.host.wall = lambda: 1 / 0
    status, answer = lab.call("facts")
    assert (status, answer["error"]["code"]) == (1, "internal")
    assert "ZeroDivisionError" in capsys.readouterr().err


def test_help_names_every_verb_and_field(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["--help"]) == 0
    out = capsys.readouterr().out
    assert all(verb in out for verb in VERBS)
    for verb, declared in VERBS.items():
        assert cli.main([verb, "--help"]) == 0
        out = capsys.readouterr().out
        assert all(field in out for field in declared.fields)
    assert cli.main(["--version"]) == 0
    assert "protocol 2" in capsys.readouterr().out
    assert cli.main([]) == 2


def test_every_changing_verb_needs_a_lease(lab: Lab) -> None:
    lab.plant(R1)
    fields = {"process": "web", "phase": "expand", "state": "good", "release": R1, "to": R1}
    for verb, declared in VERBS.items():
        if not declared.changes or verb in LEASELESS:
            continue
        accepted = {k: v for k, v in fields.items() if k in declared.fields} | MORE.get(verb, {})
        assert lab.refused(verb, **accepted) == (6, "lease_required"), verb
    assert not lab.path("run/backline/drain").exists()
    assert not lab.path("var/lib/backline/jukebox/journal.jsonl").exists()


def test_answers_are_plain_json(lab: Lab) -> None:
    json.dumps(lab.ok("facts"), allow_nan=False)
