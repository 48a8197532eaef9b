"""What the broker role tells RabbitMQ, and when it stays silent."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable
from types import ModuleType
from typing import Any

import pytest

Load = Callable[[str], ModuleType]
PATH = "broker/filter_plugins/broker_definitions.py"
USER = {"name": "jukebox", "password": "secret", "vhost": "music"}
JOBS = {
    "name": "jobs",
    "vhost": "music",
    "pattern": "^plays$",
    "definition": {
        "delivery-limit": 20,
        "dead-letter-exchange": "dead",
        "dead-letter-strategy": "at-least-once",
        "overflow": "reject-publish",
    },
}


def exported(definitions: dict[str, Any]) -> dict[str, Any]:
    """As RabbitMQ gives it back: with more fields and with others' things."""
    return {
        "vhosts": [{"name": "/"}, *({**v, "limits": []} for v in definitions["vhosts"])],
        "users": [{**u, "limits": {}} for u in definitions["users"]],
        "permissions": list(definitions["permissions"]),
        "policies": list(definitions["policies"]),
        "exchanges": list(definitions["exchanges"]),
        "queues": [{"name": "plays", "vhost": "music"}, *definitions["queues"]],
        "bindings": list(definitions["bindings"]),
    }


def test_a_password_is_kept_the_way_rabbitmq_checks_it(load: Load) -> None:
    raw = base64.b64decode(load(PATH).broker_password_hash("secret", "jukebox"))
    assert raw[4:] == hashlib.sha256(raw[:4] + b"secret").digest()


def test_two_users_with_one_password_do_not_show_it(load: Load) -> None:
    hash_of = load(PATH).broker_password_hash
    assert hash_of("secret", "ada") != hash_of("secret", "bob")


def test_a_second_run_finds_nothing_to_do(load: Load) -> None:
    module = load(PATH)
    wanted = module.broker_definitions([USER], ["music"], [JOBS], "dead")
    assert module.broker_missing(wanted, exported(wanted)) == []
    assert module.broker_surplus(wanted, exported(wanted)) == []


@pytest.mark.parametrize(
    ("change", "missing"),
    [
        ({"password": "other"}, "users jukebox"),
        ({"tags": ["monitoring"]}, "users jukebox"),
        ({"write": "^$"}, "permissions jukebox/music"),
    ],
)
def test_a_change_is_seen_and_told_without_the_secret(
    load: Load, change: dict[str, Any], missing: str
) -> None:
    module = load(PATH)
    before = exported(module.broker_definitions([USER], ["music"], []))
    after = module.broker_definitions([{**USER, **change}], ["music"], [])
    assert module.broker_missing(after, before) == [missing]


def test_every_virtual_host_has_a_place_for_dead_letters(load: Load) -> None:
    wanted = load(PATH).broker_definitions([], ["music", "films"], [], "dead")
    assert [queue["vhost"] for queue in wanted["queues"]] == ["music", "films"]
    assert {q["arguments"]["x-queue-type"] for q in wanted["queues"]} == {"quorum"}
    assert [b["destination"] for b in wanted["bindings"]] == ["dead", "dead"]
    assert load(PATH).broker_definitions([], ["music"], [], "")["queues"] == []


def test_a_virtual_host_that_was_there_before_is_not_told_its_default_for_ever(load: Load) -> None:
    module = load(PATH)
    wanted = module.broker_definitions([], ["music"], [])
    assert wanted["vhosts"][0]["metadata"]["default_queue_type"] == "quorum"
    old = {"vhosts": [{"name": "music", "metadata": {"description": "", "tags": []}}]}
    assert module.broker_missing(wanted, old) == []


def test_who_left_the_inventory_leaves_and_strangers_stay(load: Load) -> None:
    module = load(PATH)
    before = exported(module.broker_definitions([USER, {**USER, "name": "ada"}], ["music"], [JOBS]))
    before["users"] += [
        {"name": "guest", "tags": ["administrator"]},
        {"name": "nagios", "tags": []},
    ]
    before["permissions"].append({"user": "jukebox", "vhost": "/"})
    before["policies"].append({"vhost": "/", "name": "theirs"})
    now = module.broker_definitions([USER], ["music"], [])
    assert [item["argv"] for item in module.broker_surplus(now, before)] == [
        ["delete_user", "ada"],
        ["delete_user", "guest"],
        ["clear_permissions", "-p", "/", "jukebox"],
        ["clear_policy", "-p", "music", "jobs"],
    ]


@pytest.mark.parametrize(
    ("users", "policy", "problem"),
    [
        ([{**USER, "vhost": "films"}], {}, "jukebox: no virtual host 'films'"),
        ([], {"vhost": "films"}, "jobs: no virtual host 'films'"),
        ([USER, USER], {}, "the user jukebox is there twice"),
        ([{**USER, "name": "guest"}], {}, "guest is RabbitMQ's own name"),
        ([], {"definition": {"delivery-limit": 5}}, "drops the job"),
        ([], {"definition": {"dead-letter-exchange": "lost"}}, "nobody declares"),
        ([], {"pattern": ".*"}, "in a circle"),
        ([], {"definition": {**JOBS["definition"], "overflow": "drop-head"}}, "needs overflow"),
    ],
)
def test_what_would_lose_jobs_or_let_anybody_in_is_refused(
    load: Load, users: list[dict[str, Any]], policy: dict[str, Any], problem: str
) -> None:
    (found,) = load(PATH).broker_problems(users, ["music"], [{**JOBS, **policy}], "dead")
    assert problem in found and "secret" not in found


def test_what_is_right_has_no_problem(load: Load) -> None:
    limit = {"name": "limit", "vhost": "music", "definition": {"max-length": 5}}
    assert load(PATH).broker_problems([USER], ["music"], [JOBS, limit], "dead") == []
