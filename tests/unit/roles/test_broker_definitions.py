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


def exported(definitions: dict[str, Any]) -> dict[str, Any]:
    """As RabbitMQ gives it back: with more fields and with others' things."""
    return {
        "vhosts": [{"name": "/"}, *({**v, "limits": []} for v in definitions["vhosts"])],
        "users": [{**u, "limits": {}} for u in definitions["users"]],
        "permissions": list(definitions["permissions"]),
        "policies": list(definitions["policies"]),
        "queues": [{"name": "plays"}],
    }


def test_a_password_is_kept_the_way_rabbitmq_checks_it(load: Load) -> None:
    raw = base64.b64decode(load(PATH).broker_password_hash("secret", "jukebox"))
    assert raw[4:] == hashlib.sha256(raw[:4] + b"secret").digest()


def test_two_users_with_one_password_do_not_show_it(load: Load) -> None:
    hash_of = load(PATH).broker_password_hash
    assert hash_of("secret", "ada") != hash_of("secret", "bob")


def test_a_second_run_finds_nothing_to_do(load: Load) -> None:
    module = load(PATH)
    policy = {"name": "limit", "vhost": "music", "definition": {"delivery-limit": 20}}
    wanted = module.broker_definitions([USER], ["music"], [policy])
    assert module.broker_missing(wanted, exported(wanted)) == []


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


def test_a_user_of_an_unknown_virtual_host_is_refused(load: Load) -> None:
    with pytest.raises(ValueError, match=r"jukebox: no virtual host 'music'"):
        load(PATH).broker_definitions([USER], ["films"], [])
