"""What the fault suite's programs on hosts take for acknowledged: a row that is safe, and no other."""

from __future__ import annotations

import importlib.util
import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

PROGRAMS = Path(__file__).parents[2] / "data" / "programs"
UNSAFE = "canceling wait for synchronous replication due to user request"


class Link:
    """A connection that answers as it is told: a list of what each statement does."""

    def __init__(self, script: list[Any]) -> None:
        self.script, self.closed = script, False
        self.handlers: list[Callable[[Any], None]] = []

    def add_notice_handler(self, handler: Callable[[Any], None]) -> None:
        self.handlers.append(handler)

    def execute(self, statement: str, words: list[str] | None = None) -> Any:
        answer = self.script.pop(0)
        if isinstance(answer, Exception):
            raise answer
        if isinstance(answer, str):
            for handler in self.handlers:
                handler(SimpleNamespace(message_primary=answer))
            answer = None
        return SimpleNamespace(fetchone=lambda: answer)

    def close(self) -> None:
        self.closed = True


@pytest.fixture
def psycopg(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    known = SimpleNamespace(Error=type("Error", (Exception,), {}), ClientCursor=object)
    known.Connection = Link
    monkeypatch.setitem(sys.modules, "psycopg", known)
    return known


def load(name: str, monkeypatch: pytest.MonkeyPatch) -> tuple[ModuleType, list[dict[str, Any]]]:
    """A program as a module, and what it prints."""
    spec = importlib.util.spec_from_file_location(f"fault_{name}", PROGRAMS / f"{name}.py")
    assert spec and spec.loader
    program = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(program)
    told: list[dict[str, Any]] = []

    def tell(text: str, flush: bool) -> None:
        told.append(json.loads(text))

    monkeypatch.setattr(program, "print", tell, raising=False)
    return program, told


Write = Callable[..., tuple[list[str], list[Link]]]


@pytest.fixture
def write(psycopg: SimpleNamespace, monkeypatch: pytest.MonkeyPatch) -> Iterator[Write]:
    """Writes one row over connections that do what the scripts say; (what it told, connections)."""
    program, told = load("writer", monkeypatch)
    monkeypatch.setattr(program, "AGAIN_S", 0.0)
    monkeypatch.setattr(program, "OVER", SimpleNamespace(wait=lambda seconds: False))

    def once(retries: int, *scripts: list[Any]) -> tuple[list[str], list[Link]]:
        links = [Link(list(script)) for script in scripts]
        waiting = list(links)
        monkeypatch.setattr(program, "connect", lambda: waiting.pop(0))
        program.Client("run", "host.0", retries, 0.0).row("run-host.0-1")
        return [entry["what"] for entry in told], links

    yield once


def test_a_row_is_acknowledged_once_the_statement_has_ended(write: Write) -> None:
    told, links = write(0, [None])
    assert told == ["ack"] and not links[0].closed


def test_a_client_without_retries_gives_up_at_the_first_error(
    write: Write, psycopg: SimpleNamespace
) -> None:
    told, links = write(0, [psycopg.Error("gone")], [None])
    assert told == ["error", "gave up"] and links[0].closed
    assert links[1].script == [None], "it must not try again"


def test_a_client_that_tries_again_takes_another_connection(
    write: Write, psycopg: SimpleNamespace
) -> None:
    told, links = write(1, [psycopg.Error("gone")], [None])
    assert told == ["error", "ack"] and links[0].closed and not links[1].closed


def test_the_second_error_is_the_last(write: Write, psycopg: SimpleNamespace) -> None:
    told, _ = write(1, [psycopg.Error("gone")], [psycopg.Error("still")], [None])
    assert told == ["error", "error", "gave up"]


def test_a_commit_that_no_standby_has_is_not_acknowledged(write: Write) -> None:
    told, _ = write(0, [UNSAFE])
    assert told == ["error", "gave up"]


Ask = Callable[[list[Any]], str]


@pytest.fixture
def ask(psycopg: SimpleNamespace, monkeypatch: pytest.MonkeyPatch) -> Ask:
    """What the watcher answers for a host that does what the script says."""
    program, _ = load("watcher", monkeypatch)

    def once(script: list[Any]) -> str:
        watch = program.Watch("run", "db1", "")
        monkeypatch.setattr(watch, "connect", lambda: Link(script), raising=False)
        return str(watch.ask("run-beside-db1-1"))

    return once


def test_a_host_that_commits_is_writable(ask: Ask) -> None:
    assert ask([(False,), None]) == "yes"


def test_a_standby_is_not_asked_for_more(ask: Ask) -> None:
    assert ask([(True,)]) == "no: in recovery"


def test_a_commit_that_was_let_go_of_does_not_make_a_host_writable(ask: Ask) -> None:
    assert ask([(False,), UNSAFE]).startswith("no: canceling wait")


def test_a_question_that_is_open_at_the_end_is_told_of(
    psycopg: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    program, told = load("watcher", monkeypatch)
    watch = program.Watch("run", "db1", "198.18.0.31")
    watch.open = ("run-network-db1-1", 17.0)
    watch.last()
    assert told[0]["told"] is None and told[0]["answer"] == "waiting"
    assert (told[0]["via"], told[0]["asked"]) == ("network", 17.0)


@pytest.fixture
def publish(monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[str]]:
    """Publishes one job over channels that do what they are told; what was told of it."""
    broken = type("AMQPError", (Exception,), {})
    nacked = type("MessageNacked", (Exception,), {})
    amqp = ModuleType("amqp")
    amqp.Message = lambda body, delivery_mode: body  # type: ignore[attr-defined]
    amqp.Connection = amqp.Channel = object  # type: ignore[attr-defined]
    exceptions = ModuleType("amqp.exceptions")
    exceptions.AMQPError, exceptions.MessageNacked = broken, nacked  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "amqp", amqp)
    monkeypatch.setitem(sys.modules, "amqp.exceptions", exceptions)
    program, told = load("jobs", monkeypatch)
    monkeypatch.setattr(program, "AGAIN_S", 0.0)

    def once(*fates: str) -> list[str]:
        left = list(fates)

        def basic_publish(*_: Any, **__: Any) -> None:
            fate = left.pop(0)
            if not left:
                program.PUBLISHING.set()
            if fate != "good":
                raise {"broken": broken, "nacked": nacked, "slow": TimeoutError}[fate]()

        link = SimpleNamespace(collect=lambda: None)
        channel = SimpleNamespace(basic_publish=basic_publish)
        monkeypatch.setattr(program, "opened", lambda queue: (link, channel))
        program.publish("run", "queue")
        assert len({entry["id"] for entry in told if "id" in entry}) == 1
        return [entry["what"] for entry in told]

    return once


@pytest.mark.parametrize("fate", ["broken", "nacked", "slow"])
def test_a_job_that_is_not_confirmed_is_published_once_more(
    publish: Callable[..., list[str]], fate: str
) -> None:
    assert publish(fate, "good") == ["refused", "confirmed", "published"]


def test_after_the_second_try_it_is_given_up(publish: Callable[..., list[str]]) -> None:
    assert publish("broken", "slow") == ["refused", "refused", "gave up", "published"]
