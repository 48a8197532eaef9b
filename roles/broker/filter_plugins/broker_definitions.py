"""What the broker has to hold, in the form in which RabbitMQ exports and imports it.

Passwords travel as salted digests only. The salt is derived from name and password, so that the
same inventory gives the same digest and a second run finds nothing to change.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
from collections.abc import Callable
from typing import Any

Definition = dict[str, Any]

HASHING = "rabbit_password_hashing_sha256"
MARK = "inventory"
"""The tag of users that the role made: one of them who has left the inventory leaves the broker."""
GUEST = "guest"
# What tells one definition from another of its kind.
KEYS = {
    "vhosts": ("name",),
    "users": ("name",),
    "permissions": ("user", "vhost"),
    "exchanges": ("vhost", "name"),
    "queues": ("vhost", "name"),
    "bindings": ("vhost", "source", "destination"),
    "policies": ("vhost", "name"),
}
# RabbitMQ 3.10 reads what it is told of a virtual host only when it makes it.
ONCE = {"vhosts"}


def broker_password_hash(password: str, user: str) -> str:
    """Return base64(salt + sha256(salt + password)), the form RabbitMQ keeps.

    >>> broker_password_hash("secret", "ada") == broker_password_hash("secret", "ada")
    True
    """
    salt = hmac.new(password.encode(), user.encode(), hashlib.sha256).digest()[:4]
    return base64.b64encode(salt + hashlib.sha256(salt + password.encode()).digest()).decode()


def broker_problems(
    users: list[Definition], vhosts: list[str], policies: list[Definition], dead: str
) -> list[str]:
    """Return what is wrong with the role's variables, in plain words; none of it is a secret.

    dead: name of the exchange and queue of dead letters, "" for none.
    """
    problems = [
        f"{item['name']}: no virtual host {item['vhost']!r} in broker_vhosts"
        for item in (*users, *policies)
        if item["vhost"] not in vhosts
    ]
    names = [str(user["name"]) for user in users]
    problems += [
        f"the user {name} is there twice" for name in sorted(set(names)) if names.count(name) > 1
    ]
    if GUEST in names:
        problems.append("guest is RabbitMQ's own name for everybody: take another")
    for policy in policies:
        problems += [f"policy {policy['name']}: {text}" for text in _policy_problems(policy, dead)]
    return problems


def _policy_problems(policy: Definition, dead: str) -> list[str]:
    """What would lose jobs under this policy."""
    definition = policy["definition"]
    exchange = definition.get("dead-letter-exchange")
    problems = []
    if "delivery-limit" in definition and exchange is None:
        problems.append("a delivery-limit without a dead-letter-exchange drops the job")
    if exchange is None:
        return problems
    if exchange != dead:
        problems.append(f"nobody declares the dead-letter-exchange {exchange!r}: take {dead!r}")
    if re.search(str(policy.get("pattern", ".*")), dead):
        problems.append(
            f"its pattern takes in the queue {dead!r}: dead letters would go in a circle"
        )
    safe = definition.get("dead-letter-strategy") == "at-least-once"
    if safe and definition.get("overflow") != "reject-publish":
        problems.append(
            "at-least-once needs overflow: reject-publish; without it RabbitMQ loses dead letters"
        )
    return problems


def broker_definitions(
    users: list[Definition], vhosts: list[str], policies: list[Definition], dead: str = ""
) -> dict[str, list[Definition]]:
    """Return RabbitMQ's definitions for the role's variables, which have no problem.

    users: name, password, vhost, tags (default none), and configure, write, read (default all).
    vhosts: names. policies: name, vhost, pattern, definition, apply_to, priority. dead: the
    exchange and quorum queue, of one name, that every virtual host has for its dead letters.
    """
    homes = [str(name) for name in vhosts] if dead else []
    return {
        "vhosts": [
            {
                "name": str(name),
                "metadata": {"description": "", "tags": [], "default_queue_type": "quorum"},
            }
            for name in vhosts
        ],
        "users": [
            {
                "name": str(user["name"]),
                "password_hash": broker_password_hash(str(user["password"]), str(user["name"])),
                "hashing_algorithm": HASHING,
                "tags": [*(str(tag) for tag in user.get("tags") or []), MARK],
            }
            for user in users
        ],
        "permissions": [
            {
                "user": str(user["name"]),
                "vhost": str(user["vhost"]),
                **{right: str(user.get(right, ".*")) for right in ("configure", "write", "read")},
            }
            for user in users
        ],
        "exchanges": [
            {
                "name": dead,
                "vhost": vhost,
                "type": "fanout",
                "durable": True,
                "auto_delete": False,
                "arguments": {},
            }
            for vhost in homes
        ],
        "queues": [
            {
                "name": dead,
                "vhost": vhost,
                "durable": True,
                "auto_delete": False,
                "arguments": {"x-queue-type": "quorum"},
            }
            for vhost in homes
        ],
        "bindings": [
            {
                "source": dead,
                "vhost": vhost,
                "destination": dead,
                "destination_type": "queue",
                "routing_key": "",
                "arguments": {},
            }
            for vhost in homes
        ],
        "policies": [
            {
                "vhost": str(policy["vhost"]),
                "name": str(policy["name"]),
                "pattern": str(policy.get("pattern", ".*")),
                "apply-to": str(policy.get("apply_to", "queues")),
                "priority": int(policy.get("priority", 0)),
                "definition": dict(policy["definition"]),
            }
            for policy in policies
        ],
    }


def broker_missing(wanted: dict[str, list[Definition]], current: dict[str, Any]) -> list[str]:
    """Return what the broker lacks or has otherwise, as "kind key", without any secret.

    Fields that RabbitMQ adds of its own accord do not count.
    """
    missing = []
    for kind, keys in KEYS.items():
        have = {tuple(item.get(key) for key in keys): item for item in current.get(kind, [])}
        for item in wanted[kind]:
            key = tuple(item[part] for part in keys)
            if key in have and kind in ONCE:
                continue
            if any(have.get(key, {}).get(name) != value for name, value in item.items()):
                missing.append(f"{kind} {'/'.join(key)}")
    return missing


def broker_surplus(
    wanted: dict[str, list[Definition]], current: dict[str, Any]
) -> list[dict[str, Any]]:
    """Return what the broker has and must not have, each as {what, argv} of rabbitmqctl.

    That is guest, users that the role made and that left the inventory, what its users may do
    elsewhere, and policies of its virtual hosts. Virtual hosts and queues hold messages: they stay.
    """
    users = {user["name"] for user in wanted["users"]}
    vhosts = {vhost["name"] for vhost in wanted["vhosts"]}
    rights = {(right["user"], right["vhost"]) for right in wanted["permissions"]}
    policies = {(policy["vhost"], policy["name"]) for policy in wanted["policies"]}
    gone = [
        user["name"]
        for user in current.get("users", [])
        if user["name"] not in users and (user["name"] == GUEST or MARK in user.get("tags", []))
    ]
    found = [{"what": f"user {name}", "argv": ["delete_user", name]} for name in sorted(gone)]
    for right in current.get("permissions", []):
        user, vhost = right["user"], right["vhost"]
        if user in users and (user, vhost) not in rights:
            what = f"permissions {user}/{vhost}"
            found.append({"what": what, "argv": ["clear_permissions", "-p", vhost, user]})
    for policy in current.get("policies", []):
        vhost, name = policy["vhost"], policy["name"]
        if vhost in vhosts and (vhost, name) not in policies:
            what = f"policies {vhost}/{name}"
            found.append({"what": what, "argv": ["clear_policy", "-p", vhost, name]})
    return found


class FilterModule:
    """What Ansible loads."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        """Return the filters of this file by name."""
        return {
            "broker_definitions": broker_definitions,
            "broker_missing": broker_missing,
            "broker_password_hash": broker_password_hash,
            "broker_problems": broker_problems,
            "broker_surplus": broker_surplus,
        }
