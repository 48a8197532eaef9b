"""What hosts were told before, read from their environment files."""

from __future__ import annotations

import re
from typing import Any

LINE = re.compile(r'^([A-Za-z_][A-Za-z0-9_]*)="(.*)"$')


def environment(text: str) -> dict[str, str]:
    """The variables in a file as the role `app` writes it."""
    found = (LINE.match(line) for line in text.splitlines())
    return {match[1]: re.sub(r"\\(.)", r"\1", match[2]) for match in found if match}


def pending(hosts: list[dict[str, str]], wanted: dict[str, Any]) -> bool:
    """True when some host is told another value than `wanted` for any of its variables."""
    return any(told.get(name) != str(value) for told in hosts for name, value in wanted.items())


def old_values(hosts: list[dict[str, str]], wanted: dict[str, Any]) -> dict[str, str]:
    """For each variable the value that is to be replaced.

    After a run that was cut short hosts differ: the old value is the one that some host still has,
    also as a fallback, and that is not the new one. The new one where none is left.
    """
    found = {}
    for name, value in wanted.items():
        seen = [told.get(key, "") for told in hosts for key in (name, f"{name}_FALLBACKS")]
        found[name] = next((old for old in seen if old and old != str(value)), str(value))
    return found


class FilterModule:
    """What Ansible looks for."""

    def filters(self) -> dict[str, Any]:
        return {
            "read_environment": environment,
            "rotation_pending": pending,
            "rotation_old_values": old_values,
        }
