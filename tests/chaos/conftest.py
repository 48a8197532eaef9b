"""A fleet for tests that break things: lab `lab-chaos`, or one that is up already (`--env`).

A test module says `SIZE = "full"` if the small lab is not enough for it.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from backline.lab import files
from tests.live import Fleet, build, run
from tests.reading import Page

ENV = "lab-chaos"


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--env", default="", help="a lab that is up, taken and left as it is")
    parser.addoption("--keep", action="store_true", help=f"leave {ENV} up, take it if it is up")


@pytest.fixture(scope="session")
def made(pytestconfig: pytest.Config) -> Iterator[set[str]]:
    """The sizes of lab-chaos that this run has made and provisioned; removed at the end."""
    keep = bool(pytestconfig.getoption("--keep"))
    if not pytestconfig.getoption("--env") and not keep:
        run("inv", "lab.down", "--env", ENV)
    yield set()
    if not pytestconfig.getoption("--env") and not keep:
        run("inv", "lab.down", "--env", ENV)


@pytest.fixture(scope="module")
def fleet(request: pytest.FixtureRequest, made: set[str]) -> Fleet:
    """A provisioned fleet that serves a release of the sample application."""
    env = str(request.config.getoption("--env"))
    if not env:
        env = ENV
        _make(str(getattr(request.module, "SIZE", "small")), made)
    fleet = Fleet(env)
    assert files.load(env), f"there is no lab {env}: inv lab.up --env {env}"
    _deploy(fleet)
    return fleet


def _make(size: str, made: set[str]) -> None:
    """Brings lab-chaos to `size`; a lab of another size gives way."""
    if size in made:
        return
    present = files.load(ENV)
    if present and present.size != size:
        run("inv", "lab.down", "--env", ENV)
    run("inv", "lab.up", "--env", ENV, "--size", size)
    run("fab", "provision", "--env", ENV, timeout=2400)
    made.clear()
    made.add(size)


def _deploy(fleet: Fleet) -> None:
    """Deploys a release, unless every host that runs the application has one."""
    users = sorted({*fleet.hosts("streaming"), *fleet.hosts("worker")})
    rows = run("fab", "status", "--env", fleet.env, "--json", expect=None).lines
    if {row["host"] for row in rows if row.get("current")} >= set(users):
        return
    release = build("1.0.0")
    words = ("--release", release, "--yes", str(len(users)))
    run("fab", "deploy", "--env", fleet.env, *words)


@pytest.fixture
def page(request: pytest.FixtureRequest, fleet: Fleet) -> Page:
    """The page of an emergency whose parts the test follows (tests.reading.follows)."""
    name, parts = request.function.follows
    return Page(name, parts, {"ENV": fleet.env})
