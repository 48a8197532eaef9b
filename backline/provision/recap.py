"""Adds up what a run of Ansible did: which host changed, failed or was out of reach, and where.

Fed with ansible-runner's events as they come, from a run or from a file. Results of tasks with
`no_log` arrive censored; nothing of a result but its message, its diff and its counts is kept.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

OK, FAILED, UNREACHABLE = "runner_on_ok", "runner_on_failed", "runner_on_unreachable"
SKIPPED = "runner_on_skipped"
HIDDEN = "hidden: the task handles secrets"
DEBUG = ("debug", "ansible.builtin.debug")
MESSAGE_CHARACTERS = 1000


@dataclass
class HostCount:
    """How many tasks did what on one host."""

    ok: int = 0
    changed: int = 0
    failed: int = 0
    unreachable: int = 0
    skipped: int = 0
    task: str = ""


@dataclass(frozen=True)
class Trouble:
    """A task that failed on a host, or before which the host was lost."""

    host: str
    task: str
    message: str
    unreachable: bool


@dataclass
class Change:
    """A task that changed something: on which hosts, and what differed in files where it said so."""

    task: str
    where: str
    hosts: list[str] = field(default_factory=list)
    diffs: dict[str, list[str]] = field(default_factory=dict)


@dataclass
class Recap:
    """The state of a run after the events seen so far; `told`: what it said to people (debug tasks)."""

    hosts: dict[str, HostCount] = field(default_factory=dict)
    changes: dict[str, Change] = field(default_factory=dict)
    troubles: list[Trouble] = field(default_factory=list)
    play: str = ""
    told: list[str] = field(default_factory=list)
    task: str = ""
    ended: bool = False

    def take(self, event: Mapping[str, Any]) -> Trouble | Change | None:
        """Counts one event; returns the trouble or the change that it tells of."""
        kind, data = str(event.get("event", "")), event.get("event_data") or {}
        if kind == "playbook_on_play_start":
            self.play = str(data.get("name") or data.get("play") or "")
        elif kind in ("playbook_on_task_start", "playbook_on_handler_task_start"):
            self.task = _task(data)
        elif kind == "playbook_on_stats":
            self._settle(data.get("changed") or {})
            if "dark" in data:
                self._forgive(data["dark"] or {})
            self.ended = True
        elif kind == "runner_on_start" and data.get("host"):
            self._count(data).task = _task(data)
        elif kind in (OK, FAILED, UNREACHABLE, SKIPPED) and data.get("host"):
            return self._result(kind, data)
        return None

    def _settle(self, changed: Mapping[str, int]) -> None:
        """Adds the changes that only Ansible's own totals tell of: censored results do not."""
        for host, total in changed.items():
            count = self.hosts.setdefault(host, HostCount())
            if total > count.changed:
                count.changed = total
                self.changes.setdefault(
                    HIDDEN, Change("tasks that handle secrets", "")
                ).hosts.append(host)

    def _forgive(self, dark: Mapping[str, int]) -> None:
        """Drops what Ansible went on without, such as a helper that is dead: only its totals tell that
        a loss was ignored."""
        for trouble in [t for t in self.troubles if t.unreachable and t.host not in dark]:
            self.troubles.remove(trouble)
            count = self.hosts[trouble.host]
            count.unreachable, count.ok = count.unreachable - 1, count.ok + 1

    def _count(self, data: Mapping[str, Any]) -> HostCount:
        return self.hosts.setdefault(str(data["host"]), HostCount())

    def _result(self, kind: str, data: Mapping[str, Any]) -> Trouble | Change | None:
        count, result = self._count(data), data.get("res") or {}
        count.task = _task(data)
        if kind == SKIPPED:
            count.skipped += 1
            return None
        if kind in (FAILED, UNREACHABLE) and not data.get("ignore_errors"):
            lost = kind == UNREACHABLE
            count.unreachable += lost
            count.failed += not lost
            trouble = Trouble(str(data["host"]), _task(data), _message(result), lost)
            self.troubles.append(trouble)
            return trouble
        count.ok += 1
        if data.get("task_action") in DEBUG:
            self._tell(result.get("msg"))
        if not result.get("changed"):  # nor does a censored result say: see _settle
            return None
        count.changed += 1
        key = str(data.get("task_uuid") or _task(data))
        change = self.changes.setdefault(key, Change(_task(data), _where(data)))
        if data["host"] not in change.hosts:
            change.hosts.append(str(data["host"]))
        for text in _diffs(result):
            change.diffs.setdefault(text, []).append(str(data["host"]))
        return change

    def _tell(self, message: object) -> None:
        """Keeps what a playbook says to people: once, however many hosts say it."""
        said = "\n".join(map(str, message)) if isinstance(message, list) else str(message or "")
        said = "\n".join(line.rstrip() for line in said.splitlines() if line.strip())
        if said and said not in self.told:
            self.told.append(said)

    def changed(self) -> list[str]:
        """The hosts on which something changed (or, in check mode, would)."""
        return [name for name, count in self.hosts.items() if count.changed]

    def failed(self) -> list[str]:
        """The hosts on which a task failed that nothing rescued."""
        return sorted({t.host for t in self.troubles if not t.unreachable})

    def unreachable(self) -> list[str]:
        """The hosts that could not be reached, at first or in the middle."""
        return sorted({trouble.host for trouble in self.troubles if trouble.unreachable})


def _task(data: Mapping[str, Any]) -> str:
    role, task = data.get("role"), str(data.get("task") or "")
    return f"{role} : {task}" if role and not task.startswith(f"{role} : ") else task


def _where(data: Mapping[str, Any]) -> str:
    return str(data.get("task_path") or "")


def _message(result: Mapping[str, Any]) -> str:
    if "censored" in result:
        return HIDDEN
    said = [
        str(result[key]).strip() for key in ("msg", "stderr", "module_stderr") if result.get(key)
    ]
    items = result.get("results")
    for item in items if isinstance(items, list) else []:
        if isinstance(item, Mapping) and (item.get("failed") or item.get("unreachable")):
            said.append(_message(item))
    return (
        "; ".join(dict.fromkeys(filter(None, said)))[:MESSAGE_CHARACTERS] or "no reason was given"
    )


def _diffs(result: Mapping[str, Any]) -> list[str]:
    """Each file difference of a result as text; loops have one per item."""
    found: list[str] = []
    items = result.get("results")
    for item in [result, *(items if isinstance(items, list) else [])]:
        if not isinstance(item, Mapping) or "censored" in item or not item.get("changed"):
            continue
        diffs = item.get("diff") or []
        for diff in diffs if isinstance(diffs, list) else [diffs]:
            text = _unified(diff)
            if text and text not in found:
                found.append(text)
    return found


def _unified(diff: Any) -> str:
    import difflib

    if not isinstance(diff, Mapping):
        return ""
    if diff.get("prepared"):
        return str(diff["prepared"]).rstrip("\n")
    if "before" not in diff and "after" not in diff:
        return ""
    before, after = _lines(diff.get("before")), _lines(diff.get("after"))
    names = (str(diff.get("before_header") or "before"), str(diff.get("after_header") or "after"))
    return "\n".join(difflib.unified_diff(before, after, *names, lineterm=""))


def _lines(value: Any) -> list[str]:
    import json

    if isinstance(value, (dict, list)):
        value = json.dumps(value, indent=2, sort_keys=True, default=str)
    return str(value or "").splitlines()
