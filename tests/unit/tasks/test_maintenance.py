"""fab maintenance: the page, its promise, and edges that do not all do the same."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Mapping
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from calling import Captured, call

import backline.tasks.operator
from backline import inventory
from backline.errors import BacklineError
from backline.inventory import Environment, Host
from backline.operations.maintenance import moment, one_line, words
from backline.tasks import maintenance
from backline.transport.port import HostError, Outcome, Unreachable

EDGES = ("edge1", "edge2")
NOW = 1_795_700_000.0


class Edges:
    """Implements as much of port.Fleet as is needed. `refuses`: these do not do as they are told."""

    def __init__(self) -> None:
        self.on: dict[str, dict[str, Any] | None] = dict.fromkeys(EDGES)
        self.dead: set[str] = set()
        self.refuses: set[str] = set()
        self.told: list[tuple[str, Mapping[str, Any]]] = []

    def __enter__(self) -> Edges:
        return self

    def __exit__(self, *exception: object) -> None:
        pass

    def each(self, hosts: Iterable[str], work: Any, *, deadline: float) -> dict[str, Outcome[Any]]:
        found = {}
        for host in hosts:
            try:
                found[host] = Outcome(work(host))
            except HostError as error:
                found[host] = Outcome(error=error)
        return found

    def call(
        self, host: str, verb: str, fields: Mapping[str, Any], *, deadline: float = 30.0
    ) -> dict[str, Any]:
        assert verb == "maintenance"
        if host in self.dead:
            raise Unreachable(host, "no route to host")
        if fields["action"] == "show":
            kept = self.on[host]
            return {"on": kept is not None, "after_reload": kept is not None, "kept": kept or {}}
        self.told.append((host, fields))
        if host in self.refuses:
            raise HostError(host, "HAProxy says: no", code="balancer_refused")
        what = {"since": NOW, **{k: fields.get(k) for k in ("actor", "message", "until")}}
        self.on[host] = what if fields["action"] == "on" else None
        return {"on": True, "already": False}


@pytest.fixture
def edges(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Edges:
    made = Edges()
    hosts = {name: Host(name, name, 22, "deploy", None, None, None, ()) for name in EDGES}
    rules = {"probe_url": "https://music.example.com:8443"}
    known = Environment("stage", tmp_path, hosts, {"edge": EDGES}, True, (), rules)
    monkeypatch.setattr(inventory, "load", lambda name: known)
    monkeypatch.setattr(maintenance, "reach", lambda environment: made)

    class Clock:
        def time(self) -> float:
            return NOW

    monkeypatch.setattr(backline.tasks.operator, "clock", Clock)
    return made


class Page(HTMLParser):
    """The tags of a page with their attributes, and its words."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.words += data


def test_the_page_says_what_and_until_when_and_loads_nothing(
    edges: Edges, capsys: Captured
) -> None:
    flags = {"message": "New <disks> & more", "until": "2026-11-26T22:05Z"}
    assert call(maintenance.on, dry_run=True, **flags) == 0
    said = capsys.readouterr()
    until = "until 22:05 UTC, 26 November 2026"
    assert said.err == f"{until}, show the page on edge[1-2] of stage\n"
    text = said.out.rstrip("\n")
    page = Page(text)
    assert "New <disks> & more" in page.words and "22:05 UTC, 26 November 2026" in page.words
    assert ("time", {"datetime": "2026-11-26T22:05:00Z"}) in page.tags
    assert "music.example.com: maintenance" in page.words
    assert not {"script", "link", "img"} & {tag for tag, _ in page.tags}
    assert not [
        name for _, attributes in page.tags for name in attributes if name in ("src", "href")
    ]
    assert text.isprintable() and text.startswith("<!doctype html>")
    assert edges.told == []


def test_without_an_occasion_the_page_promises_no_time() -> None:
    page = Page(maintenance.render("x", "", None))
    assert "in a few minutes" in page.words and "time" not in [tag for tag, _ in page.tags]


def test_all_edges_are_told_after_the_question(edges: Edges, capsys: Captured) -> None:
    assert call(maintenance.on, json=True) == 6
    assert call(maintenance.on, json=True, yes=1) == 6
    assert edges.told == []
    capsys.readouterr()
    assert call(maintenance.on, json=True, yes=2, message="disks", until="90m") == 0
    assert [host for host, _ in edges.told] == list(EDGES)
    fields = edges.told[0][1]
    assert fields["until"] == NOW + 5400 and "disks" in fields["page"]
    assert fields["message"] == "disks" and "@" in fields["actor"]
    found = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [(row["host"], row["on"]) for row in found] == [("edge1", True), ("edge2", True)]
    assert call(maintenance.off, yes=2) == 0
    assert edges.on == dict.fromkeys(EDGES)


def test_the_edges_are_named_before_the_question(
    edges: Edges, capsys: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys.stdin, "isatty", lambda: True, raising=False)
    monkeypatch.setattr("builtins.input", lambda: "5")
    assert call(maintenance.on) == 6
    assert capsys.readouterr().err.startswith("  show the page on edge[1-2] of stage\n")
    assert call(maintenance.off) == 6
    assert "show the application again on edge[1-2] of stage" in capsys.readouterr().err
    assert call(maintenance.off, dry_run=True) == 0
    assert "show the application again on edge[1-2] of stage" in capsys.readouterr().err
    assert edges.told == []


def test_an_edge_that_is_dead_has_to_be_named(edges: Edges, capsys: Captured) -> None:
    edges.dead = {"edge2"}
    assert call(maintenance.on, yes=2) == 1
    assert "--skip edge2" in capsys.readouterr().err and edges.told == []
    assert call(maintenance.status, json=True) == 1
    first, second = map(json.loads, capsys.readouterr().out.splitlines()[:2])
    assert (first["on"], first["after_reload"], first["error"]) == (False, False, None)
    assert (second["on"], second["after_reload"]) == (None, None) and second["error"]
    assert call(maintenance.on, yes=1, skip="edge2") == 0
    assert edges.on["edge1"] is not None
    assert call(maintenance.on, yes=1, skip="edge") == 1, "then nobody is left"


def test_an_edge_that_was_skipped_is_named_with_what_to_do_when_it_is_back(
    edges: Edges, capsys: Captured
) -> None:
    assert call(maintenance.on, yes=2) == 0
    edges.dead = {"edge2"}
    capsys.readouterr()
    assert call(maintenance.off, yes=1, skip="edge2") == 0
    said = " ".join(capsys.readouterr().err.split())
    assert "edge2 was skipped, and comes back as it was" in said and "without --skip" in said
    edges.dead = set()
    assert call(maintenance.off, yes=1, skip="edge2") == 3, "it is up, and listeners see either"


@pytest.mark.parametrize(("where", "code"), [({"edge2"}, 3), (set(EDGES), 1)])
def test_somebody_who_switches_it_at_the_same_time_is_told_of(
    edges: Edges, capsys: Captured, monkeypatch: pytest.MonkeyPatch, where: set[str], code: int
) -> None:
    told = edges.call

    def both(host: str, verb: str, fields: Mapping[str, Any], **more: Any) -> dict[str, Any]:
        answer = told(host, verb, fields, **more)
        if fields["action"] == "off" and host in where:
            edges.on[host] = {"since": NOW, "actor": "bob@desk", "message": "", "until": None}
        return answer

    monkeypatch.setattr(edges, "call", both)
    assert call(maintenance.off, yes=2) == code
    said = capsys.readouterr()
    assert "bob@desk" in said.out
    assert ("the edges differ" if code == 3 else "somebody else switched it") in said.err


@pytest.mark.parametrize(("refuses", "code"), [({"edge2"}, 3), (set(EDGES), 1)])
def test_edges_that_differ_are_told_of(
    edges: Edges, capsys: Captured, refuses: set[str], code: int
) -> None:
    edges.refuses = refuses
    assert call(maintenance.on, yes=2) == code
    err = capsys.readouterr().err
    assert ("it is on on edge1 and not on the others" in err) is (code == 3)


def test_status_of_edges(edges: Edges, capsys: Captured) -> None:
    assert call(maintenance.status) == 0
    assert "the application" in capsys.readouterr().out
    edges.on["edge1"] = {"since": NOW, "actor": "ann@desk", "message": "disks", "until": NOW + 60}
    assert call(maintenance.status) == 3
    assert "ann@desk" in capsys.readouterr().out
    edges.on["edge2"] = edges.on["edge1"]
    assert call(maintenance.status) == 0
    edges.on["edge2"] = edges.on["edge1"] = {"since": NOW - 99, "until": NOW - 9}
    assert call(maintenance.status) == 1
    assert "promises is over" in capsys.readouterr().err
    edges.dead = {"edge2"}
    assert call(maintenance.status, json=True) == 1


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("", None),
        ("90m", NOW + 5400),
        ("+2h", NOW + 7200),
        ("2026-11-26T22:05Z", 1_795_730_700.0),
        ("2026-11-26T23:05+01:00", 1_795_730_700.0),
        ("2026-11-26T22:05", 1_795_730_700.0),
    ],
)
def test_moments(text: str, found: float | None) -> None:
    assert moment(text, NOW) == found


@pytest.mark.parametrize("text", ["soon", "0m", "2026-11-25", "99999d", "-5m", "2027-01-01"])
def test_what_is_no_moment_to_come_is_refused(text: str) -> None:
    with pytest.raises(BacklineError):
        moment(text, NOW)


def test_a_page_has_one_line_and_nothing_that_cannot_be_seen() -> None:
    assert one_line("<p>\n\n   a\u00a0b\x00\n</p>\n") == "<p> a b  </p>"
    assert words(1_795_730_700.0) == ("2026-11-26T22:05:00Z", "22:05 UTC, 26 November 2026")


def test_the_role_s_own_page_is_the_same_without_an_occasion() -> None:
    """playbooks/edge.yml renders it, and knows neither message nor until."""
    from jinja2 import Environment as Jinja
    from jinja2 import FileSystemLoader, StrictUndefined

    from backline import places

    jinja = Jinja(loader=FileSystemLoader(places.CHECKOUT / "templates"), undefined=StrictUndefined)
    page = jinja.get_template("maintenance.html.j2").render(site_name="x")
    assert page == maintenance.render("x", "", None) and page.startswith("<!doctype html>")
