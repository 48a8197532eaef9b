"""Any command on many hosts."""

from __future__ import annotations

import os
import select
import shlex
import stat
import time
from typing import TYPE_CHECKING, Any

from invoke.context import Context

from backline import wording
from backline.errors import BacklineError, Exit
from backline.tasks.command import say
from backline.tasks.operator import (
    ENV_HELP,
    JSON_HELP,
    ON_HELP,
    YES_HELP,
    confirm,
    environment,
    operation,
    required,
)

if TYPE_CHECKING:
    from backline.api import Selection
    from backline.console.answers import View
    from backline.console.progress import Progress
    from backline.operations.adhoc.command import Job
    from backline.operations.adhoc.results import Result
    from backline.transport.outdir import Outdir

INPUT_SECONDS = 2.0
CHUNK = 1 << 16


@operation(
    positional=["command"],
    help={
        "command": "one string, given to `sh -c` on each host",
        "env": ENV_HELP,
        "on": ON_HELP + "; `all` for all",
        "sudo": "as root: logs in as the inventory's ansible_user, whom sudo allows it",
        "fanout": "at most so many hosts at a time (default: all of them)",
        "timeout": "seconds for each host, the connection included; then the command is ended there. Input "
        "that is piped in has as long to end",
        "stream": "show each line as it comes, behind its host's name",
        "fold": "show hosts that said the same together (the default)",
        "diff": "as --fold; who differs from the majority is shown by how",
        "outdir": "a folder for all that each host wrote: HOST.out, and HOST.err if there is any",
        "max_fail": "begin no other host after so many failures (with --fanout)",
        "json": JSON_HELP,
        "dry_run": "show the hosts and the command and end; no connection is opened",
        "yes": YES_HELP,
        "message": "why: kept in the audit trail",
    },
)
def run(
    c: Context,
    command: str,
    env: str = "",
    on: str = "",
    sudo: bool = False,
    fanout: int = 0,
    timeout: int = 60,
    stream: bool = False,
    fold: bool = False,
    diff: bool = False,
    outdir: str = "",
    max_fail: int = 0,
    json: bool = False,
    dry_run: bool = False,
    yes: int = 0,
    message: str = "",
) -> None:
    """Run a command on hosts. What is piped in is its input on each. Exit 1 unless all ended with 0.

    Hosts that say the same are shown together. Whatever was started ends when its time is over, when you
    press Ctrl-C (130), or when your terminal goes away. The command is kept in the audit trail: put no
    secrets into it, feed them as input. docs/how-to/run-commands.md

    Examples:
        fab run uptime --env lab --on streaming
        fab run 'df -h /var' --env production --on 'all:!monitor' --diff
        fab run 'systemctl restart nginx' --env production --on streaming --sudo --fanout 1 --max-fail 1
        fab run 'sh -s' --env production --on worker < look.sh
    """
    from backline.api import Fleet
    from backline.operations.adhoc.command import Job

    if stream + fold + diff + json > 1:
        raise BacklineError("--stream, --fold, --diff and --json are ways to show: choose one")
    with Fleet(environment(env)) as fleet:
        selected = fleet.on(required(fleet.environment, on))
        job = Job(command, float(timeout), fanout, max_fail, sudo)
        job.check()
        if dry_run:
            show_plan(selected, job, json)
            return
        what = f"run {shlex.quote(command)}{' as root' if sudo else ''} on"
        where = wording.touched(what, selected.hosts, fleet.environment.name)
        confirm(fleet.environment, len(selected.hosts), yes, json, touched=where)
        job = Job(command, float(timeout), fanout, max_fail, sudo, piped(timeout))
        how = "stream" if stream else "diff" if diff else "json" if json else "fold"
        carry_out(selected, job, how, outdir, message)


def show_plan(selected: Selection, job: Job, as_json: bool) -> None:
    """What would be run where."""
    from backline import console, selection

    if as_json:
        what = {"command": job.command, "sudo": job.sudo, "hosts": list(selected.hosts)}
        console.line({"schema_version": 1, "event": "plan", **what})
        return
    print(f"{wording.hosts(len(selected.hosts))}: {selection.fold(selected.hosts)}")
    print(f"{'as root' if job.sudo else 'as the deploy user'}: {job.command}")


def carry_out(selected: Selection, job: Job, how: str, outdir: str = "", message: str = "") -> None:
    """Runs the job and shows what comes. Raises BacklineError when not every host ended with 0."""
    from backline.console.progress import Progress
    from backline.operations.adhoc.results import after_interruption, failure

    files = _files(outdir, selected.hosts)
    with Progress(selected.hosts, silent=how == "json") as progress:
        shown = view(how, progress, selected.hosts)
        ears = _ears(shown, progress, how, files)
        work, results = selected.carry_out(job, message, **ears)
        shown.end()
    error = failure(results)
    missing = files.trouble if files else ""
    if work.interrupted:
        states = [after_interruption(results, job.timeout), error.state if error else "", missing]
        raise BacklineError(
            f"interrupted: {error.message if error else 'every host was done'}",
            hosts=named(error.hosts if error else (), how),
            state="; ".join(filter(None, states)),
            exit_code=Exit.INTERRUPTED,
        )
    if error:
        error.hosts = named(error.hosts, how)
        error.state = "; ".join(filter(None, (error.state, missing)))
        raise error
    if files and missing:
        hosts = named(tuple(files.troubles), how)
        raise BacklineError(missing, hosts=hosts, state="the command ended well")


def view(how: str, progress: Progress, hosts: tuple[str, ...]) -> View:
    """The way to show results: stream, fold, diff or json."""
    from backline.console.answers import AsJson, Folded, Streamed

    if how == "stream":
        return Streamed(progress, hosts)
    return AsJson() if how == "json" else Folded(progress, hosts, how == "diff")


def _files(outdir: str, hosts: tuple[str, ...]) -> Outdir | None:
    """The folder of --outdir with an empty file for each host."""
    if not outdir:
        return None
    from pathlib import Path

    from backline.transport.outdir import Outdir

    files = Outdir(Path(outdir))
    for host in hosts:
        files.begin(host)
    return files


def _ears(shown: View, progress: Progress, how: str, files: Outdir | None) -> dict[str, Any]:
    """Who hears of what: the view, the count of hosts, the files of --outdir."""
    listening = [shown.heard] if how == "stream" else []
    if files:
        listening.append(files.heard)

    def heard(host: str, stream: str, data: bytes) -> None:
        for each in listening:
            each(host, stream, data)

    def told(result: Result) -> None:
        progress.done(result.host)
        shown.take(result)

    return {"told": told, "quiet": shown.quiet, "heard": heard if listening else None}


def named(hosts: tuple[str, ...], how: str) -> tuple[str, ...]:
    """Hosts as an error names them: folded for people, one by one for programs."""
    from backline import selection

    return (selection.fold(hosts),) if hosts and how != "json" else hosts


def piped(seconds: float) -> bytes:
    """What is piped or redirected into us: the input of the command. BacklineError when it does not end
    within `seconds`: who starts us may have left a pipe open that nobody writes to.

    Whatever else stdin is (a terminal, /dev/null, a socket of some supervisor) is left alone.
    """
    from backline.operations.adhoc.command import STDIN_MOST

    try:
        kind = os.fstat(0).st_mode
    except OSError:
        return b""
    if not (stat.S_ISFIFO(kind) or stat.S_ISREG(kind)):
        return b""
    whole, told, end = bytearray(), False, time.monotonic() + seconds
    while len(whole) <= STDIN_MOST:
        left = end - time.monotonic()
        if left <= 0:
            raise BacklineError(
                f"the input did not end within {seconds:g} s",
                state="nothing was run",
                hint="a command without input: < /dev/null; input that takes longer: --timeout",
            )
        if not select.select([0], [], [], left if told else min(left, INPUT_SECONDS))[0]:
            if not told:
                say("waiting for the input to end; for a command without input: < /dev/null")
            told = True
            continue
        data = os.read(0, CHUNK)
        if not data:
            break
        whole += data
        told = told or end - time.monotonic() < seconds - INPUT_SECONDS
    return bytes(whole)
