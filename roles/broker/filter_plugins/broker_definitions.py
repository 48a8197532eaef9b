"""What the broker has to hold, in the form in which RabbitMQ exports and imports it.

Passwords travel as salted digests only. The salt is derived from name and password, so that the
same inventory gives the same digest and a second run finds nothing to change.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
from collections.abc import Callable
from typing import Any

Definition = dict[str, Any]

HASHING = "rabbit_password_hashing_sha256"
# What tells one definition from another of its kind, and what of it is ours to decide.
KEYS = {
    "vhosts": ("name",),
    "users": ("name",),
    "permissions": ("user", "vhost"),
    "policies": ("vhost", "name"),
}


def broker_password_hash(password: str, user: str) -> str:
    """Return base64(salt + sha256(salt + password)), the form RabbitMQ keeps.

    >>> broker_password_hash("secret", "ada") == broker_password_hash("secret", "ada")
    True
    """
    salt = hmac.new(password.encode(), user.encode(), hashlib.sha256).digest()[:4]
    return base64.b64encode(salt + hashlib.sha256(salt + password.encode()).digest()).decode()


def broker_definitions(
    users: list[Definition], vhosts: list[str], policies: list[Definition]
) -> dict[str, list[Definition]]:
    """Return RabbitMQ's definitions for the role's variables.

    users: name, password, vhost, tags (default none), and configure, write, read (default all).
    vhosts: names. policies: name, vhost, pattern, definition, apply_to, priority.
    Raises ValueError when a user or policy names a virtual host that is not in vhosts.
    """
    for item in (*users, *policies):
        if item["vhost"] not in vhosts:
            raise ValueError(f"{item['name']}: no virtual host {item['vhost']!r} in broker_vhosts")
    return {
        "vhosts": [{"name": str(name)} for name in vhosts],
        "users": [
            {
                "name": str(user["name"]),
                "password_hash": broker_password_hash(str(user["password"]), str(user["name"])),
                "hashing_algorithm": HASHING,
                "tags": [str(tag) for tag in user.get("tags") or []],
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
            if any(have.get(key, {}).get(name) != value for name, value in item.items()):
                missing.append(f"{kind} {'/'.join(key)}")
    return missing


class FilterModule:
    """What Ansible loads."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        """Return the filters of this file by name."""
        return {
            "broker_definitions": broker_definitions,
            "broker_missing": broker_missing,
            "broker_password_hash": broker_password_hash,
        }
