"""The jobs of the host that keeps the backups: how they went, and one that is started and followed."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from backline import wording
from backline.errors import BacklineError
from backline.transport.port import Clock, Fleet, HostError, Unreachable

JOBS = ("full", "diff", "check", "verify", "drill")
CALL = 30.0
LOOK_EVERY = 2.0
SILENCE = 120.0


@dataclass(frozen=True)
class Job:
    """A job's last run. Times are seconds since the epoch; `succeeded` is when it was last good, 0 never."""

    name: str
    ran: bool
    good: bool
    running: bool
    ended: float
    succeeded: float
    why: str
    details: Mapping[str, Any]

    def as_json(self, host: str) -> dict[str, Any]:
        return {
            "schema_version": 1,
            "event": "backup",
            "host": host,
            "job": self.name,
            "ran": self.ran,
            "good": self.good,
            "running": self.running,
            "ended": self.ended,
            "succeeded": self.succeeded,
            "why": self.why,
            "details": self.details,
        }


def job_of(name: str, found: Mapping[str, Any]) -> Job:
    """A job as its host tells of it."""
    why = f"{found['phase']}: {found['why']}" if found.get("phase") else str(found.get("why", ""))
    return Job(
        name=name,
        ran="good" in found,
        good=bool(found.get("good")),
        running=bool(found.get("running")),
        ended=float(found.get("ended", 0)),
        succeeded=float(found.get("succeeded", 0)),
        why=why,
        details=found.get("details") or {},
    )


def collect(fleet: Fleet, host: str) -> list[Job]:
    """All jobs of the host. Raises HostError."""
    jobs = fleet.call(host, "backup", {"action": "status"}, deadline=CALL)["jobs"]
    return [job_of(name, jobs.get(name, {})) for name in JOBS]


def run(
    fleet: Fleet,
    host: str,
    name: str,
    clock: Clock,
    say: Callable[[str], None],
    who: Mapping[str, Any],
) -> Job:
    """Starts a job, or joins the one that runs, and hands over its words until it ends.

    The host goes on without us. Raises BacklineError when it failed, HostError when it cannot be asked.
    """
    begun = fleet.call(host, "backup", {**who, "action": "start", "job": name}, deadline=CALL)
    if begun["already"]:
        say("it runs already: following that one")
    cursor, heard = str(begun["cursor"]), clock.monotonic()
    while True:
        fields = {"action": "follow", "job": name, "cursor": cursor}
        try:
            answer = fleet.call(host, "backup", fields, deadline=CALL)
        except Unreachable as error:
            if clock.monotonic() - heard > SILENCE:
                raise BacklineError(
                    f"{host} does not answer any more: {error.message}",
                    hosts=[host],
                    state=f"the job {name} goes on there by itself",
                    hint="fab db.status tells how it went",
                ) from None
            clock.sleep(LOOK_EVERY)
            continue
        heard, cursor = clock.monotonic(), str(answer["cursor"])
        for text in answer["log"]:
            say(text)
        if not answer["running"]:
            return _judged(host, job_of(name, _of_this_run(answer["result"], begun.get("before"))))
        clock.sleep(LOOK_EVERY)


def _of_this_run(result: Mapping[str, Any], before: float | None) -> Mapping[str, Any]:
    """The result; empty when it is still that of the run before, which ended at `before`: who was killed
    left none. An older hostctl does not tell."""
    return {} if before and result.get("ended") == before else result


def _judged(host: str, job: Job) -> Job:
    if job.good:
        return job
    raise BacklineError(
        f"{job.name} failed: {job.why or 'it left no result'}",
        hosts=[host],
        state="earlier backups are what they were",
        hint=f"journalctl -u backline-backup@{job.name} on {host}; "
        "docs/runbooks/backup-job-failed.md",
    )


def keeper(groups: Mapping[str, tuple[str, ...]]) -> str:
    """The host that keeps the backups. Raises BacklineError."""
    hosts = groups.get("backup", ())
    if len(hosts) != 1:
        raise BacklineError(
            f"the inventory has {wording.hosts(len(hosts))} in the group backup, not one",
            state="nothing was changed",
            hint="docs/how-to/backups.md says how to set it up",
        )
    return hosts[0]


def unknown(error: HostError) -> str:
    """Why nothing is known of the backups, in a line."""
    return f"{error.host}: {error.message}"
