"""`hostctl maintenance`: what listeners see, also after a reload, and who wanted it."""

from __future__ import annotations

from typing import Any
from urllib.parse import unquote

import pytest

from .fake_haproxy import MAP, FakeHaproxy
from .fake_host import Lab

PAGE = '<!doctype html><title>100% ♫</title><p>Back at "nine"; it\'s planned + nice. \\ << </p>'


@pytest.fixture
def haproxy(lab: Lab) -> FakeHaproxy:
    path = lab.path(MAP)
    path.parent.mkdir(parents=True)
    path.write_text("site off\n")
    path.chmod(0o640)
    return FakeHaproxy(lab)


def switch(lab: Lab, action: str, **fields: Any) -> dict[str, Any]:
    answer: dict[str, Any] = lab.ok(
        "maintenance", app=..., token=..., action=action, actor="ann@desk", **fields
    )
    return answer


def test_it_is_on_at_once_and_after_a_reload(lab: Lab, haproxy: FakeHaproxy) -> None:
    assert switch(lab, "on", page=PAGE, until=1830297599)["already"] is False
    for _ in range(2):
        assert haproxy.map["site"] == "on" and unquote(haproxy.map["page"]) == PAGE
        assert unquote(haproxy.map["retry"]) == "Fri, 31 Dec 2027 23:59:59 GMT"
        assert not any(" " in value for value in haproxy.map.values())
        haproxy.start()
    assert switch(lab, "on", page=PAGE, until=1830297599)["already"] is True
    switch(lab, "off")
    for _ in range(2):
        assert haproxy.map == {"site": "off"}
        haproxy.start()


def test_who_wanted_it_is_kept_until_it_is_over(lab: Lab, haproxy: FakeHaproxy) -> None:
    switch(lab, "on", page=PAGE, until=1830297599, message="disks")
    shown = switch(lab, "show")
    assert (shown["on"], shown["after_reload"], shown["page"]) == (True, True, PAGE)
    kept = shown["kept"]
    assert (kept["actor"], kept["message"], kept["until"]) == ("ann@desk", "disks", 1830297599)
    switch(lab, "off")
    shown = switch(lab, "show")
    assert (shown["on"], shown["kept"], shown["page"]) == (False, {}, None)


def test_a_switch_by_hand_is_nobody_s_we_know(lab: Lab, haproxy: FakeHaproxy) -> None:
    switch(lab, "on", page=PAGE)
    lab.path(MAP).write_text("site on\n")  # what edge-maintenance leaves
    haproxy.start()
    shown = switch(lab, "show")
    assert (shown["on"], shown["kept"], shown["page"]) == (True, {}, None)


def test_another_page_takes_the_place_of_the_first(lab: Lab, haproxy: FakeHaproxy) -> None:
    switch(lab, "on", page=PAGE)
    switch(lab, "on", page="<p>later</p>")
    assert unquote(haproxy.map["page"]) == "<p>later</p>"
    switch(lab, "on")
    assert "page" not in haproxy.map and haproxy.map["retry"] == "120"


def test_the_page_is_there_before_the_switch_and_gone_after_it(
    lab: Lab, haproxy: FakeHaproxy
) -> None:
    switch(lab, "on", page=PAGE)
    switch(lab, "off")
    changes = [command.split()[:4] for command in haproxy.commands if "map" in command]
    words = [(word[0], word[3]) for word in changes if word[0] != "show"]
    on = [name for what, name in words if what == "add"]
    assert on[:4] == ["page", "retry", "who", "site"]
    assert words.index(("add", "site"), 5) < words.index(("del", "page"))


def test_who_owns_the_map_and_who_may_read_it_stays(lab: Lab, haproxy: FakeHaproxy) -> None:
    before = lab.path(MAP).stat()
    switch(lab, "on", page=PAGE)
    after = lab.path(MAP).stat()
    assert (before.st_uid, before.st_gid, before.st_mode) == (
        after.st_uid,
        after.st_gid,
        after.st_mode,
    )


def test_a_reload_in_between_is_told_too(lab: Lab, haproxy: FakeHaproxy) -> None:
    """The master has read the old file, and makes its worker when we have told the old worker."""
    happened = []

    def reload(command: str) -> None:
        if command == "show proc" and not happened:
            happened.append(True)
            haproxy.pid += 1
            haproxy.map = {"site": "off"}

    haproxy.before = reload
    switch(lab, "on", page=PAGE)
    assert haproxy.map["site"] == "on" and happened


@pytest.mark.parametrize("page", ["", "two\nlines", "<p>\0</p>", 7, "<p>" + "ü" * 3000])
def test_a_page_that_haproxy_could_not_hold_changes_nothing(
    lab: Lab, haproxy: FakeHaproxy, page: object
) -> None:
    status, _ = lab.refused("maintenance", app=..., action="on", page=page)
    assert status == 2 and haproxy.map == {"site": "off"}


def test_what_haproxy_refuses_is_told(lab: Lab, haproxy: FakeHaproxy) -> None:
    haproxy.refuses = "Out of memory error."
    assert lab.refused("maintenance", app=..., action="on", page=PAGE) == (1, "balancer_refused")


def test_a_host_that_is_no_edge_says_so(lab: Lab) -> None:
    assert lab.refused("maintenance", app=..., action="on") == (1, "no_balancer")
