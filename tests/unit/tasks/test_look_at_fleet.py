"""`fab releases`, `fab lock`, `fab certs`: what they show, what they refuse, how they end."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
from calling import call, lines
from fake_fleet import FakeFleet, Fault
from looked_at import DAY, NOW, OLD, environment, made

import backline.tasks.operator
from backline import inventory
from backline.provision.lock import Begun
from backline.tasks import certs, lock, other_hands, releases

NEW = "20260202T000000Z-0000002"
RUN = "20260202T000000Z-ann-1234"


@pytest.fixture
def fleet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeFleet:
    found = made()
    monkeypatch.setenv("BACKLINE_ROOT", str(tmp_path))
    monkeypatch.setattr(inventory, "load", lambda name: environment(tmp_path))
    for module in (certs, lock, releases):
        monkeypatch.setattr(module, "reach", lambda environment: found)
    monkeypatch.setattr(backline.tasks.operator, "clock", lambda: found.clock)
    return found


# Releases.


def test_releases_say_where_each_is_live_warm_or_only_there(
    fleet: FakeFleet, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("stream1", "stream2"):
        host = fleet.hosts[name]
        host.staged[NEW] = "good"
        host.live["web"] = NEW
        host.running["web"] = {NEW, OLD} if name == "stream1" else {NEW}
    assert call(releases.releases, json=True) == 0
    newest, oldest = lines(capsys)
    assert (newest["release"], newest["live"]) == (NEW, ["stream1", "stream2"])
    assert oldest["warm"] == ["stream1"] and oldest["live"] == ["worker1"]
    assert set(oldest["states"]) == {"stream1", "stream2", "worker1"}
    assert not newest["here"]
    assert call(releases.releases) == 0
    out = capsys.readouterr().out
    assert "live worker1; warm stream1; there stream2" in " ".join(out.split())
    assert max(map(len, out.splitlines())) <= 80


def test_a_release_that_was_never_shipped_is_shown_and_a_damaged_one_explained(
    fleet: FakeFleet, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "dist").mkdir()
    (tmp_path / "dist" / f"{NEW}.release.json").write_text("{}")
    (tmp_path / "dist" / f"{OLD}.release.json").write_text("{}")
    assert call(releases.releases, json=True) == 0
    newest, oldest = lines(capsys)
    assert newest["here"] and not newest["states"] and "damaged" in newest["trouble"]
    assert oldest["here"] and oldest["app"] == "jukebox" and oldest["live"]


def test_what_lies_only_here_is_cut_short_and_that_is_said(
    fleet: FakeFleet, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "dist").mkdir()
    for number in range(13):
        name = f"20260301T0000{number:02}Z-0000001"
        (tmp_path / "dist" / f"{name}.release.json").write_text("{}")
    assert call(releases.releases) == 0
    said = capsys.readouterr()
    assert said.out.count("?       20260301T") == 10 and OLD in said.out
    assert "3 older ones lie only in dist/" in " ".join(said.err.split())
    assert call(releases.releases, limit=0) == 0
    assert capsys.readouterr().out.count("?       20260301T") == 13
    assert call(releases.releases, json=True) == 0
    assert len(lines(capsys)) == 14


def test_releases_of_a_dead_host_are_missing_and_that_is_said(
    fleet: FakeFleet, capsys: pytest.CaptureFixture[str]
) -> None:
    fleet.dead.add("stream2")
    assert call(releases.releases) == 1
    assert "1 of 4 hosts did not answer" in capsys.readouterr().err


def test_a_selection_and_an_app_narrow_the_list(
    fleet: FakeFleet, capsys: pytest.CaptureFixture[str]
) -> None:
    call(releases.releases, on="worker", json=True)
    assert [row["live"] for row in lines(capsys)] == [["worker1"]]
    call(releases.releases, app="radio", json=True)
    assert lines(capsys) == []


# Leases.


def hold(fleet: FakeFleet, *names: str, seconds: float = 42.0, run: str = RUN) -> None:
    for name in names:
        host = fleet.hosts[name]
        host.lease, host.holder, host.fence = (run, 7), "ann@desk", 7
        host.lease_ends = fleet.clock.now + seconds
        host.run = {"run": run, "plan": {}, "notes": [], "ended": None, "wanted": None, "token": 7}


def renews(fleet: FakeFleet, name: str) -> Callable[[str, str], None]:
    """What a controller that lives does to the lease on a host, each time that anybody looks."""

    def renew(host: str, verb: str) -> None:
        fleet.hosts[name].lease_ends = fleet.clock.now + 60

    return renew


def test_the_lease_is_shown_with_its_holder_its_hosts_and_its_end(
    fleet: FakeFleet, capsys: pytest.CaptureFixture[str]
) -> None:
    hold(fleet, "stream1", "stream2")
    assert call(lock.show, json=True) == 0
    (lease,) = lines(capsys)
    assert lease["event"] == "lease" and lease["schema_version"] == 1
    assert (lease["run"], lease["holder"], lease["ends_in"]) == (RUN, "ann@desk", 42.0)
    assert lease["hosts"] == lease["unfinished"] == ["stream1", "stream2"]
    assert call(lock.show) == 0
    out = capsys.readouterr().out
    assert "ann@desk" in out and "42 s" in out and "stream[1-2]" in out


def test_nobody_holds_one_and_a_run_that_was_left_is_named(
    fleet: FakeFleet, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call(lock.show) == 0
    assert "nobody holds a lease" in capsys.readouterr().err
    hold(fleet, "stream1", seconds=-1)
    assert call(lock.show, json=True) == 0
    (left,) = lines(capsys)
    assert (left["event"], left["run"], left["hosts"]) == ("unfinished", RUN, ["stream1"])


def test_a_dead_holders_lease_is_freed_with_the_runs_own_token(
    fleet: FakeFleet, capsys: pytest.CaptureFixture[str]
) -> None:
    hold(fleet, "stream1", "stream2")
    assert call(lock.release, yes=2, message="her laptop is gone", json=True) == 0
    assert fleet.hosts["stream1"].lease is None and fleet.hosts["stream2"].lease is None
    sent = [fields for _, verb, fields in fleet.calls if fields.get("action") == "release"]
    assert len(sent) == 2 and all(f["run"] == RUN and f["token"] == 7 for f in sent)
    assert sent[0]["message"] == "her laptop is gone" and "ended" not in sent[0]
    assert fleet.hosts["stream1"].run["ended"] is None  # type: ignore[index]
    plan, freed = lines(capsys)
    assert (plan["event"], plan["alive"]) == ("plan", False)
    assert freed["event"] == "freed" and freed["hosts"] == ["stream1", "stream2"]
    assert sum(fleet.clock.slept) >= 2 * 5.0  # two renewals would have come


def test_what_is_lost_is_named_before_anything_is_asked(
    fleet: FakeFleet, capsys: pytest.CaptureFixture[str]
) -> None:
    hold(fleet, "stream1")
    assert call(lock.release, dry_run=True) == 0
    err = capsys.readouterr().err
    assert "seems to be dead" in err and "refused at its next step" in err
    assert "fab deploy.resume" in err
    assert fleet.hosts["stream1"].lease is not None


def test_it_asks_even_where_nothing_else_does(fleet: FakeFleet) -> None:
    hold(fleet, "stream1")
    assert call(lock.release, json=True) == 6
    assert call(lock.release, yes=2) == 6
    assert fleet.hosts["stream1"].lease is not None


def test_a_holder_at_work_keeps_its_lease(
    fleet: FakeFleet, capsys: pytest.CaptureFixture[str]
) -> None:
    hold(fleet, "stream1", "stream2")
    fleet.before_call = renews(fleet, "stream2")
    assert call(lock.release, yes=2) == 5
    assert "fab deploy.abort" in capsys.readouterr().err
    assert fleet.hosts["stream1"].lease is not None


@pytest.mark.parametrize("looks", [1, 10**9])
def test_a_host_that_is_silent_does_not_say_that_its_holder_is_dead(
    fleet: FakeFleet, capsys: pytest.CaptureFixture[str], looks: int
) -> None:
    """`looks`: for how many of them; the holder renews its lease all along."""
    hold(fleet, "stream1")
    renewed, seen = renews(fleet, "stream1"), []

    def silent(host: str, verb: str) -> None:
        renewed(host, verb)
        seen.append((host, verb))
        fleet.dead = {"stream1"} if 0 < seen.count(("stream1", "lease")) <= looks else set()

    fleet.before_call = silent
    assert call(lock.release, yes=1) == 5
    said = capsys.readouterr().err
    assert ("cannot be seen from here" in said) is (looks > 1), said
    assert fleet.hosts["stream1"].lease is not None


def test_a_playbook_renews_nothing_and_is_dead_only_where_that_is_known(
    fleet: FakeFleet, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    hold(fleet, "stream1", run=f"patch-{RUN}")
    fleet.hosts["stream1"].run = None
    assert call(lock.release, yes=1) == 5
    assert "cannot be seen" in (said := capsys.readouterr().err) and "deploy.pause" not in said
    assert fleet.hosts["stream1"].lease is not None
    kept = tmp_path / ".cache" / "provision"
    kept.mkdir()
    begun = Begun(RUN, "ann@desk", "03:05", "fab patch --on stream1")
    (kept / f"{environment(tmp_path).name}.begun").write_text(json.dumps(asdict(begun)))
    assert call(lock.release, yes=1) == 0
    assert fleet.hosts["stream1"].lease is None


def test_force_takes_it_with_a_reason(fleet: FakeFleet, capsys: pytest.CaptureFixture[str]) -> None:
    hold(fleet, "stream1")
    fleet.before_call = renews(fleet, "stream1")
    assert call(lock.release, force=True, yes=1) == 1
    assert "--message" in capsys.readouterr().err and not fleet.calls
    assert call(lock.release, force=True, yes=1, message="she hangs") == 0
    assert "AT WORK" in capsys.readouterr().err
    assert fleet.hosts["stream1"].lease is None


def test_a_run_of_this_machine_that_ended_is_not_watched(
    fleet: FakeFleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    hold(fleet, "stream1")
    fleet.hosts["stream1"].holder = other_hands.new_run("jukebox", "").actor
    monkeypatch.setattr(other_hands, "_gone_from_here", lambda fleet, run: True)
    assert call(lock.release, yes=1) == 0
    assert fleet.clock.slept == [] and fleet.hosts["stream1"].lease is None


def test_several_leases_need_a_name_and_a_wrong_name_lists_them(
    fleet: FakeFleet, capsys: pytest.CaptureFixture[str]
) -> None:
    hold(fleet, "stream1")
    hold(fleet, "stream2", run="another")
    assert call(lock.release, yes=1) == 1
    assert RUN in capsys.readouterr().err
    assert call(lock.release, yes=1, run="nobody") == 1
    assert call(lock.release, yes=1, run="another") == 0
    assert fleet.hosts["stream1"].lease and not fleet.hosts["stream2"].lease


def test_nothing_to_free_is_no_error(fleet: FakeFleet) -> None:
    assert call(lock.release) == 0


def test_a_host_that_went_away_meanwhile_is_named(
    fleet: FakeFleet, capsys: pytest.CaptureFixture[str]
) -> None:
    hold(fleet, "stream1", "stream2")

    def die(host: str, verb: str) -> None:
        if fleet.calls[-1][2].get("action") == "release":
            fleet.dead.add("stream2")

    fleet.before_call = die
    assert call(lock.release, yes=2) == 1
    err = capsys.readouterr().err
    assert "stream2" in err and "freed on 1 host;" in err


def test_silent_hosts_are_not_said_to_hold_nothing(
    fleet: FakeFleet, capsys: pytest.CaptureFixture[str]
) -> None:
    fleet.dead |= {"stream1", "stream2", "worker1", "db1"}
    for task in (lock.show, lock.release):
        assert call(task) == 1
        err = capsys.readouterr().err
        assert "nobody holds" not in err and "4 of 4 hosts did not answer" in err
        assert "db1,stream[1-2],worker1: no answer" in err and "not known" in err
    fleet.dead.remove("db1")
    for task in (lock.show, lock.release):
        assert call(task) == 1
        err = capsys.readouterr().err
        assert "of the hosts that answered nobody holds a lease" in err
        assert "3 of 4 hosts did not answer" in err


def test_a_lease_is_freed_where_it_can_be_and_silent_hosts_are_named(
    fleet: FakeFleet, capsys: pytest.CaptureFixture[str]
) -> None:
    hold(fleet, "stream1")
    fleet.dead.add("stream2")
    assert call(lock.release, dry_run=True) == 1
    before, _, after = capsys.readouterr().err.partition("error:")
    assert "stream2 did not answer, and may have it too" in before
    assert "stream2: no answer" in after and fleet.hosts["stream1"].lease is not None
    assert call(lock.release, yes=1) == 1
    err = capsys.readouterr().err
    assert "hosts: stream2" in err and "state: freed on 1 host;" in err
    assert fleet.hosts["stream1"].lease is None


def test_an_unknown_run_may_hold_one_on_a_host_that_is_silent(
    fleet: FakeFleet, capsys: pytest.CaptureFixture[str]
) -> None:
    hold(fleet, "stream1")
    fleet.dead.add("stream2")
    assert call(lock.release, run="another") == 1
    assert "hosts: stream2\n  state: nothing was changed; these" in capsys.readouterr().err


def test_releases_are_not_denied_to_hosts_that_are_silent(
    fleet: FakeFleet, capsys: pytest.CaptureFixture[str]
) -> None:
    fleet.dead |= {"stream1", "stream2", "worker1", "db1"}
    assert call(releases.releases) == 1
    err = capsys.readouterr().err
    assert "none of the hosts that answered has a release" in err
    assert "4 of 4 hosts did not answer" in err


# Certificates.


@pytest.fixture
def told(fleet: FakeFleet, monkeypatch: pytest.MonkeyPatch) -> dict[str, list[dict[str, Any]]]:
    """What each host has; the same authority everywhere."""
    ca = {"name": "ca", "path": "/ca.pem", "subject": "CA", "not_after": NOW + 900 * DAY}
    found: dict[str, list[dict[str, Any]]] = {
        name: [
            {**ca, "sha256": "c" * 64},
            {
                "name": "host",
                "path": "/host.pem",
                "subject": name,
                "sha256": name * 8,
                "not_after": NOW + 60 * DAY,
            },
        ]
        for name in fleet.hosts
    }

    def answer(host: Any, fields: Any) -> dict[str, Any]:
        return {"certificates": found[host.name], "time": NOW}

    monkeypatch.setattr(fleet, "_certificates", answer, raising=False)
    return found


def test_certificates_that_are_alike_share_a_row(
    fleet: FakeFleet, told: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call(certs.certs) == 0
    out = capsys.readouterr().out.splitlines()
    assert len(out) == 1 + 4 + 1 and max(map(len, out)) <= 80
    assert out[-1].split()[:1] == ["900"] and "db1,stream[1-2],worker1" in out[-1]


def test_one_that_ends_soon_is_first_and_exit_1(
    fleet: FakeFleet, told: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    told["stream2"].append(
        {"name": "edge", "path": "/e.pem", "subject": "music", "not_after": NOW + 13.5 * DAY}
    )
    assert call(certs.certs, json=True) == 1
    first, *_, error = lines(capsys)
    assert (first["host"], first["name"], first["days"]) == ("stream2", "edge", 13.5)
    assert first["schema_version"] == 1
    assert error["event"] == "error" and error["hosts"] == ["stream2"]
    assert call(certs.certs, days=13.0) == 0
    assert call(certs.certs, days=61.0) == 1


@pytest.mark.parametrize(
    "entry",
    [
        {"name": "edge", "path": "/e.pem", "trouble": "it holds no certificate"},
        {"name": "edge", "path": "/e.pem", "subject": "x", "not_after": NOW - DAY},
    ],
)
def test_one_that_is_broken_or_over_is_exit_1(
    fleet: FakeFleet, told: Any, entry: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    told["stream1"].append(entry)
    assert call(certs.certs, days=0.0) == 1
    assert "stream1" in capsys.readouterr().err


def test_a_silent_host_and_an_old_hostctl_are_exit_1(
    fleet: FakeFleet, told: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    fleet.dead.add("stream1")
    assert call(certs.certs) == 1
    assert "stream1: no answer" in capsys.readouterr().err
    told["worker1"].append({"name": "edge", "path": "/e.pem", "trouble": "it holds none"})
    assert call(certs.certs, json=True) == 1
    message = lines(capsys)[-1]["message"]
    assert message.splitlines()[1:] == ["stream1: no answer"] and "  " not in message
    told["worker1"].pop()
    fleet.dead.clear()
    fleet.faults.append(Fault("certificates", "unknown_verb", host="db1"))
    assert call(certs.certs) == 1
    err = capsys.readouterr().err
    assert "db1: its hostctl is too old" in err and "--tags hostctl" in err
