"""`hostctl backup`: jobs of the host that keeps the backups: how they went, and starting one now."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

from . import record, units
from .errors import HostctlError
from .host import Host
from .names import Request

FILE = "/etc/backline/backup.json"
JOBS = ("full", "diff", "check", "verify", "drill")
LOG_LINES = 200


def backup(host: Host, request: Request) -> dict[str, object]:
    """The verb `backup`. `status` returns {jobs: {job: its last result, with `running`}}, `start`
    {already, cursor, before}: when the run before this one ended, 0 for none; `follow` {running, log,
    cursor, result}: what was logged after `cursor`.

    Raises `UsageError`, or `HostctlError`: no_repository, bad_settings, systemd_failed.
    """
    action = request.choice("action", ("status", "start", "follow"))
    folder = _state_dir(host)
    if action == "status":
        jobs = {job: {**result(folder, job), "running": _running(host, job)} for job in JOBS}
        return {"jobs": jobs}
    job = request.choice("job", JOBS)
    if action == "follow":
        return _follow(host, request, folder, job)
    shown = _show(host, job)
    already, last = _busy(shown), result(folder, job)
    cursor = _log(host, job, "--lines=1")[1]
    if not already:
        record.announce(host, request, "done", action="start", job=job)
        units.order(host, "start", "--no-block", unit(job))
    # One that is at its end has written its own result already.
    before = 0 if last.get("began", 0) >= _since(shown) else last.get("ended", 0)
    return {"already": already, "cursor": cursor, "before": before}


def known(host: Host) -> dict[str, dict[str, Any]] | None:
    """{job: {good, ended}} of the jobs that ever ran here; None on a host that keeps no backups."""
    if not host.path(FILE).exists():
        return None
    folder = _state_dir(host)
    ran = {job: last for job in JOBS if (last := result(folder, job))}
    return {job: {"good": bool(last["good"]), "ended": last["ended"]} for job, last in ran.items()}


def unit(job: str) -> str:
    return f"backline-backup@{job}.service"


def result(folder: Path, job: str) -> dict[str, Any]:
    """How the job's last run went; empty when it never ran."""
    try:
        found = json.loads((folder / f"{job}.json").read_text())
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _follow(host: Host, request: Request, folder: Path, job: str) -> dict[str, object]:
    # Whether it runs first: its last words are logged by then.
    running = _running(host, job)
    after = request.text("cursor")
    wanted = [f"--after-cursor={after}"] if after else [f"--lines={LOG_LINES}"]
    log, cursor = _log(host, job, *wanted)
    return {
        "running": running,
        "log": log,
        "cursor": cursor or after,
        "result": {} if running else result(folder, job),
    }


def _log(host: Host, job: str, *options: str) -> tuple[list[str], str]:
    argv = ["journalctl", "--unit", unit(job), "--no-pager", "--output=cat", "--show-cursor", "-q"]
    lines = host.run([*argv, *options], timeout=20).out.splitlines()
    cursors = [line for line in lines if line.startswith("-- cursor: ")]
    told = [line for line in lines if not line.startswith("-- ")]
    return told[-LOG_LINES:], cursors[-1][len("-- cursor: ") :] if cursors else ""


def _running(host: Host, job: str) -> bool:
    return _busy(_show(host, job))


def _show(host: Host, job: str) -> dict[str, str]:
    properties = "--property=ActiveState,Job,InactiveExitTimestamp"
    argv = ["systemctl", "show", "--timestamp=unix", properties, unit(job)]
    lines = host.run(argv, timeout=20).out.splitlines()
    return dict(line.partition("=")[::2] for line in lines if line)


def _busy(shown: dict[str, str]) -> bool:
    return _at_work(shown) or shown.get("Job", "0") not in ("", "0")


def _at_work(shown: dict[str, str]) -> bool:
    return shown.get("ActiveState") in ("activating", "active", "deactivating", "reloading")


def _since(shown: dict[str, str]) -> float:
    """When the run that is at work began, in whole seconds since the epoch; never, if none is."""
    moment = shown.get("InactiveExitTimestamp", "").lstrip("@")
    return float(moment) if _at_work(shown) and moment.isdecimal() else math.inf


def _state_dir(host: Host) -> Path:
    path = host.path(FILE)
    try:
        found = json.loads(path.read_text())
        folder = host.path(str(found["state_dir"]))
        if not host.path("/etc/systemd/system/backline-backup@.service").exists():
            raise FileNotFoundError
    except FileNotFoundError:
        raise HostctlError(
            "no_repository",
            "this host keeps no backups; nothing was started",
            "ask the group backup",
        ) from None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise HostctlError("bad_settings", f"{path} cannot be used: {error}") from None
    return folder
