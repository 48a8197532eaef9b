"""--dry-run, of every task that has it: hosts are asked and nothing is changed. And every task that is no
look has it: who is unsure at 3 a.m. can always ask first."""

# ruff: noqa: F811 (pytest's fixtures have the names of what was imported)

from __future__ import annotations

import copy
import inspect
import io
import json
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from calling import call
from fake_fleet import Fault, small_fleet
from test_operator_tasks import OLD, fleet, release  # noqa: F401 (fixtures)

sys.path.insert(0, str(Path(__file__).parents[1] / "operations"))

import service_fleet
from data_fleet import APPS, NAMES, Clock
from service_fleet import ServiceFleet
from test_database_work import Database
from test_media import Hosts as Caches

import backline.tasks.operator
import backline.transport.playbook
import fabfile
from backline import inventory
from backline.inventory import Environment, Host
from backline.tasks import other_hands
from backline.transport import host_keys
from backline.transport.connection import PinnedConnection
from backline.transport.playbook import Ended

LOOKS = {
    *("certs", "doctor", "drift", "logs", "releases", "report", "status"),
    *("audit.show", "audit.verify", "broker.status", "hosts.list", "lock.show"),
    *("completion.bash", "completion.zsh", "completion.fish"),
    *("db.status", "db.slow", "db.locks", "deploy.plan", "maintenance.status"),
    *("workers.status", "workers.dead"),
}
"""Tasks that change nothing on any host whatever they are told. Whoever adds one here has seen to it."""
READS = {
    *(("facts", ""), ("status", ""), ("lease", "show"), ("balance", "show"), ("cache", "show")),
    *(("maintenance", "show"), ("broker", "queues"), ("jobs", "status"), ("jobs", "dead")),
    *(("database", "status"), ("backup", "status"), ("proxy", "status")),
}
"""What hostctl is asked, verb and action, that changes nothing on the host."""
UNLESS = {("database", "query"): ("write", False), ("jobs", "revoke"): ("dry", True)}
"""What changes nothing as long as a field says so."""


def reads(verb: str, fields: Mapping[str, Any]) -> bool:
    """Whether a call leaves its host as it is."""
    what = (verb, str(fields.get("action", "")))
    if what in UNLESS:
        name, value = UNLESS[what]
        return fields.get(name, False) is value
    return what in READS


class Watched:
    """Stands before a fleet in memory, and notes what its hosts are asked. Nothing else of it is there:
    neither the hands of a rollout nor a way to send files."""

    def __init__(self, fleet: Any) -> None:
        self.fleet = fleet
        self.asked: list[tuple[str, str, Mapping[str, Any]]] = []

    def call(self, host: str, verb: str, fields: Mapping[str, Any], **more: Any) -> Any:
        self.asked.append((host, verb, dict(fields)))
        return self.fleet.call(host, verb, fields, **{"deadline": 1000.0, **more})

    def each(self, hosts: Iterable[str], work: Any, **more: Any) -> Any:
        return self.fleet.each(hosts, work, **{"done": lambda host, outcome: None, **more})

    def __enter__(self) -> Watched:
        return self

    def __exit__(self, *exception: object) -> None:
        pass


@dataclass
class World:
    """Where a task is rehearsed: hosts in memory, its flags, and what is asked of Ansible."""

    fleet: Any
    flags: dict[str, Any] = field(default_factory=dict)
    groups: dict[str, tuple[str, ...]] = field(default_factory=dict)


# The worlds.


def with_the_release(request: pytest.FixtureRequest) -> tuple[Any, str]:
    """Three hosts that run OLD, and a newer release in dist/."""
    return request.getfixturevalue("fleet"), request.getfixturevalue("release")


def deployed(request: pytest.FixtureRequest) -> Any:
    """Hosts that run the newer release."""
    fleet, release = with_the_release(request)
    assert call(fabfile.namespace["deploy.start"], release=release) == 0
    return fleet


def begins(request: pytest.FixtureRequest) -> World:
    """Its hosts' hostctl is older than ours, which a deploy would bring up to date first."""
    fleet, release = with_the_release(request)
    for host in fleet.hosts.values():
        host.facts["hostctl"] = "0.0.1"
    return World(fleet, {"release": release})


def runs(request: pytest.FixtureRequest) -> World:
    return World(with_the_release(request)[0])


def goes_back(request: pytest.FixtureRequest) -> World:
    return World(deployed(request))


def was_cut_off(request: pytest.FixtureRequest) -> World:
    fleet, release = with_the_release(request)
    fleet.faults.append(Fault("start", "interrupt", host="stream2", release=release))
    assert call(fabfile.namespace["deploy.start"], release=release) == 130
    fleet.faults.clear()
    return World(fleet)


def is_alive(request: pytest.FixtureRequest) -> World:
    """A run under way: somebody else holds its lease."""
    world = was_cut_off(request)
    for host in world.fleet.hosts.values():
        if host.run:
            host.lease, host.holder = (host.run["run"], host.fence), "bob@desk"
            host.lease_ends = world.fleet.clock.now + 1000.0
    return world


def in_quarantine(request: pytest.FixtureRequest) -> World:
    fleet, release = with_the_release(request)
    fleet.faults.append(Fault("check", "unhealthy", host="stream2", release=release))
    flags = {"release": release, "budget": "1", "floor": "0"}
    assert call(fabfile.namespace["deploy.start"], **flags) == 0
    return World(fleet)


def service(drained: bool = False, **flags: Any) -> Callable[[pytest.FixtureRequest], World]:
    groups = {
        "edge": service_fleet.EDGES,
        "streaming": service_fleet.SERVING,
        "worker": ("worker1",),
        "broker": service_fleet.BROKERS,
    }

    def make(request: pytest.FixtureRequest) -> World:
        made = ServiceFleet()
        job = {"task": "music.play", "id": "job1", "queue": "plays", "why": "rejected"}
        made.letters = [{**job, "at": 100.0, "count": 1, "requeued": 0}]
        made.busy = [{"task": "music.play", "id": "job9", "since": None, "queue": "plays"}]
        made.hosts["stream2"].drained = drained
        return World(made, flags, groups)

    return make


def data(leaderless: bool = False, **flags: Any) -> Callable[[pytest.FixtureRequest], World]:
    groups = {"database": NAMES, "streaming": APPS[:1], "worker": APPS[1:], "backup": ("backup1",)}

    def make(request: pytest.FixtureRequest) -> World:
        made = Database()
        made.dead = {"db1"} if leaderless else set()
        return World(made, flags, groups)

    return make


def caches(request: pytest.FixtureRequest) -> World:
    return World(Caches(), {"paths": "album/*"}, {"streaming": ("stream1", "stream2")})


def hosts(**flags: Any) -> Callable[[pytest.FixtureRequest], World]:
    """Hosts that are not to be asked at all, or by Ansible alone."""
    groups = {"media": ("media1",), "database": NAMES, "backup": ("backup1",)}
    return lambda request: World(small_fleet(OLD, {}), flags, groups)


def folder(request: pytest.FixtureRequest) -> World:
    place = request.getfixturevalue("tmp_path") / "music"
    place.mkdir()
    return World(small_fleet(OLD, {}), {"folder": str(place)}, {"media": ("media1",)})


MADE: dict[str, Callable[[pytest.FixtureRequest], World]] = {
    "deploy.start": begins,
    "deploy.resume": was_cut_off,
    "deploy.abort": is_alive,
    "deploy.pause": is_alive,
    "deploy.promote": is_alive,
    "deploy.catchup": in_quarantine,
    "deploy.contract": runs,
    "rollback": goes_back,
    "lock.release": is_alive,
    "drain": service(on="stream1"),
    "undrain": service(drained=True, on="stream2"),
    "maintenance.on": service(message="Back soon."),
    "maintenance.off": service(),
    "workers.scale": service(pool="plays", children=5),
    "workers.drain": service(on="worker1"),
    "workers.requeue": service(),
    "workers.revoke": service(job="job9"),
    "db.switchover": data(),
    "db.failover": data(leaderless=True),
    "db.psql": data(command="delete from plays", write=True),
    "db.backup": data(),
    "db.drill": data(),
    "db.vacuum": data(table="public.plays"),
    "db.kill": data(pid="11"),
    "db.restore": hosts(to="newest", folder="/x"),
    "media.purge": caches,
    "media.sync": folder,
    "hosts.trust": hosts(),
    "provision": hosts(),
    "restart": hosts(on="database"),
    "reboot": hosts(on="database"),
    "patch": hosts(on="database"),
    "run": hosts(command="reboot", on="database"),
    "shell": hosts(on="database"),
}
"""For each task with --dry-run: where it would have something to do, and its other flags."""


@pytest.fixture
def ansible(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """In place of Ansible: the options of each playbook that would be run."""
    asked: list[list[str]] = []

    def run(path: Path, inventory: Path, *, options: list[str], **_: object) -> Ended:
        asked.append(options)
        return Ended(0, False, "")

    monkeypatch.setattr(backline.transport.playbook, "run", run)
    return asked


@pytest.fixture
def nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    """No connection is opened, no key written, nobody waited for; host keys are read without a handshake."""

    def refuse(*words: object, **more: object) -> None:
        raise AssertionError("a dry run has no business here")

    monkeypatch.setattr(
        other_hands, "time", SimpleNamespace(monotonic=time.monotonic, sleep=refuse)
    )
    monkeypatch.setattr(PinnedConnection, "open", refuse)
    monkeypatch.setattr(host_keys, "write", refuse)
    monkeypatch.setattr(
        host_keys, "offered", lambda host, known: (host.name, {"ssh-ed25519": "AAAA"})
    )
    monkeypatch.setattr(sys, "stdin", io.StringIO("reboot\n"))


def put(world: World, root: Path, monkeypatch: pytest.MonkeyPatch) -> Watched:
    """Makes a world the environment `stage`, which asks for the number of hosts."""
    (root / "playbooks").mkdir(exist_ok=True)
    (root / "roles").mkdir(exist_ok=True)
    (root / "ansible.cfg").touch()
    for name in ("site", "patch", "media", "restore"):
        (root / "playbooks" / f"{name}.yml").touch()
    (root / "inventory" / "stage").mkdir(parents=True)
    watched = Watched(world.fleet)
    if world.groups:
        names = dict.fromkeys(name for group in world.groups.values() for name in group)
        made = {name: Host(name, name, 22, "deploy", None, None, None, ()) for name in names}
        known = Environment("stage", root / "inventory" / "stage", made, world.groups, True, ())
        monkeypatch.setenv("BACKLINE_ROOT", str(root))
        monkeypatch.setattr(inventory, "load", lambda name: known)
        clock = getattr(world.fleet, "clock", None) or Clock()
        monkeypatch.setattr(backline.tasks.operator, "clock", lambda: clock)
    for name, module in list(sys.modules.items()):
        if name.startswith("backline.tasks.") and hasattr(module, "reach"):
            monkeypatch.setattr(module, "reach", lambda environment: watched)
    return watched


def files(folder: Path) -> dict[str, bytes]:
    """What lies in a folder: records, pinned keys; not what is remembered to be faster."""
    found: Iterator[Path] = (path for path in folder.rglob("*") if path.is_file())
    names = {path: str(path.relative_to(folder)) for path in found}
    return {name: path.read_bytes() for path, name in names.items() if name[:6] != ".cache"}


def rehearsals() -> set[str]:
    tasks = fabfile.namespace.task_names
    return {
        name
        for name in tasks
        if "dry_run" in inspect.signature(fabfile.namespace[name].body).parameters
    }


def test_what_is_no_look_can_be_rehearsed() -> None:
    tasks = set(fabfile.namespace.task_names)
    assert tasks - rehearsals() - LOOKS == set(), "these need --dry-run, or are looks"
    assert LOOKS - tasks == set(), "these are no tasks any more"
    assert LOOKS & rehearsals() == set(), "what can be rehearsed is no look"


def test_each_of_them_is_rehearsed_here() -> None:
    assert set(MADE) == rehearsals()


@pytest.mark.parametrize("as_json", [False, True])
@pytest.mark.parametrize("name", MADE)
def test_a_dry_run_changes_nothing(
    name: str,
    as_json: bool,
    ansible: list[list[str]],
    nobody: None,
    request: pytest.FixtureRequest,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    world = MADE[name](request)
    watched = put(world, tmp_path, monkeypatch)
    capsys.readouterr()
    kept, before = files(tmp_path), copy.deepcopy(getattr(world.fleet, "hosts", None))
    code = call(fabfile.namespace[name], **world.flags, json=as_json, dry_run=True)
    said = capsys.readouterr()
    assert code == 0, said.err
    assert said.out if as_json else said.out + said.err, "it says what it would do"
    assert not as_json or all(json.loads(line)["schema_version"] for line in said.out.splitlines())
    assert [ask for ask in watched.asked if not reads(*ask[1:])] == []
    assert [options for options in ansible if "--check" not in options] == []
    assert getattr(world.fleet, "hosts", None) == before, "leases, fences, releases"
    assert files(tmp_path) == kept, "nothing is in the records"


def test_the_fleets_of_these_rehearsals_would_notice() -> None:
    """Without --dry-run, `drain` calls what is not among the reading verbs."""
    fleet = ServiceFleet()
    fleet.drain("stream1")
    assert [verb for _, verb, fields in fleet.calls if not reads(verb, fields)]
    assert not reads("database", {"action": "query", "write": True})
    assert not reads("jobs", {"action": "revoke", "dry": False})
    assert not reads("lease", {"action": "take"}) and not reads("run", {})
