#!/usr/bin/python3
"""Converges this host from a git repository, once: what backline-pull.service runs.

The commit is fetched into a mirror and judged there: signed by somebody we know, and no step back.
ansible-pull gets its playbooks from the mirror's branch `accepted`, so that nothing of a commit that was
refused is ever checked out. (Its own --verify-commit looks after the files are in place, and its next
run reads the inventory among them.) One run at a time; how it went is written where the node exporter
reads it. Exit: that of ansible-pull; 75 when another run is at work, 76 when the commit was refused.
"""

from __future__ import annotations

import fcntl
import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path

SETTINGS = Path("/etc/backline/pull/settings.json")
LOCK = Path("/run/backline/pull.lock")
BUSY, REFUSED = 75, 76
ACCEPTED = "refs/heads/accepted"
RECAP = re.compile(
    r"^\S+\s+: ok=\d+\s+changed=(?P<changed>\d+)\s+unreachable=(?P<unreachable>\d+)\s+failed=(?P<failed>\d+)"
)
SUCCESS = re.compile(r"^backline_pull_last_success_timestamp_seconds (\S+)$", re.M)


class RefusedError(Exception):
    """The repository could not be read, or what it offers is not taken; the message says why."""


def main() -> int:
    settings = json.loads(SETTINGS.read_text())
    LOCK.parent.mkdir(parents=True, exist_ok=True)
    with LOCK.open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print("another run is at work: this one ends here", file=sys.stderr)
            return BUSY
        return run(settings)


def run(settings: dict) -> int:
    """One run: fetch, judge, converge, tell."""
    began = time.time()
    environment = {**os.environ, **settings["environment"]}
    try:
        commit = accept(settings, environment)
        print(f"commit {commit} is accepted", flush=True)
        code, counts = converge(settings["command"], environment)
    except RefusedError as error:
        print(error, file=sys.stderr)
        code, counts = REFUSED, dict.fromkeys(("changed", "unreachable", "failed"), 0)
    write(Path(settings["metrics"]), began, code, counts, revision(settings["checkout"]))
    return code


def accept(settings: dict, environment: dict[str, str]) -> str:
    """Fetches the commit and makes it the mirror's branch `accepted`. Raises RefusedError."""
    mirror = settings["mirror"]

    def git(*words: str) -> subprocess.CompletedProcess[str]:
        argv = ["git", "-C", mirror, *words]
        return subprocess.run(argv, env=environment, capture_output=True, text=True, check=False)

    if not (Path(mirror) / "HEAD").exists():
        subprocess.run(["git", "init", "--quiet", "--bare", mirror], env=environment, check=True)
    wanted = f"+{settings['ref']}:refs/backline/offered"
    fetched = git("fetch", "--quiet", "--no-tags", settings["repository"], wanted)
    if fetched.returncode:
        raise RefusedError(f"fetching {settings['ref']} failed: {fetched.stderr.strip()}")
    commit = git("rev-parse", "refs/backline/offered^{commit}").stdout.strip()
    if settings["verify"] and git("verify-commit", commit).returncode:
        raise RefusedError(f"commit {commit} is not signed by anybody whom this host trusts")
    known = git("rev-parse", "--verify", "--quiet", ACCEPTED).returncode == 0
    if (
        known
        and not settings["rewind"]
        and git("merge-base", "--is-ancestor", ACCEPTED, commit).returncode
    ):
        raise RefusedError(f"commit {commit} does not follow the one that was accepted before")
    git("update-ref", ACCEPTED, commit)
    return commit


def converge(command: list[str], environment: dict[str, str]) -> tuple[int, dict[str, int]]:
    """Runs ansible-pull, its output passed on as it comes; returns its exit code and its counts."""
    counts = {"changed": 0, "unreachable": 0, "failed": 0}
    process = subprocess.Popen(
        command,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
    )
    assert process.stdout is not None
    for line in process.stdout:
        print(line, end="", flush=True)
        counts = recap(line) or counts
    return process.wait(), counts


def recap(line: str) -> dict[str, int] | None:
    """The counts in a line of a play's recap; the last one is the playbook's."""
    found = RECAP.match(line)
    return {name: int(value) for name, value in found.groupdict().items()} if found else None


def revision(checkout: str) -> str:
    """The commit that is checked out; empty when there is none."""
    words = ["git", "-c", f"safe.directory={checkout}", "-C", checkout, "rev-parse", "HEAD"]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    return done.stdout.strip() if done.returncode == 0 else ""


def write(path: Path, began: float, code: int, counts: dict[str, int], commit: str) -> None:
    """The metrics, in one step; a failed run keeps the time of the last good one."""
    before = SUCCESS.search(path.read_text()) if path.exists() else None
    success = str(time.time()) if code == 0 else before[1] if before else "0"
    rows = (
        ("last_run_timestamp_seconds", "When the last run began.", began),
        ("last_success_timestamp_seconds", "When a run last succeeded; 0 for never.", success),
        ("success", "Whether the last run succeeded.", int(code == 0)),
        ("duration_seconds", "How long the last run took.", round(time.time() - began, 3)),
        ("changed_tasks", "Tasks of the last run that changed something.", counts["changed"]),
        (
            "failed_tasks",
            "Tasks of the last run that failed.",
            counts["failed"] + counts["unreachable"],
        ),
    )
    text = "".join(
        f"# HELP backline_pull_{name} {what}\n# TYPE backline_pull_{name} gauge\n"
        f"backline_pull_{name} {value}\n"
        for name, what, value in rows
    )
    text += "# HELP backline_pull_revision_info The commit that the last run had checked out.\n"
    text += "# TYPE backline_pull_revision_info gauge\n"
    text += f'backline_pull_revision_info{{revision="{commit}"}} 1\n'
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    partial.write_text(text)
    partial.chmod(0o644)
    partial.replace(path)


if __name__ == "__main__":
    raise SystemExit(main())
