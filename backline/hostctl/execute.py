"""`hostctl exec`: what a unit runs to become a process of a release.

It needs no privilege and must start fast: it imports next to nothing, and replaces itself.
"""

from __future__ import annotations

import os
import sys

from . import settings
from .errors import FAILED, HostctlError, Refused, UsageError
from .host import Host
from .names import Request

FLAGS = {"--app": "app", "--process": "process", "--release": "release"}


def parse(arguments: list[str], verb: str = "exec") -> Request:
    """`--app A --process P --release R` as a checked request. Raises `UsageError`."""
    fields: dict[str, object] = {}
    rest = list(arguments)
    while rest:
        flag, equals, value = rest.pop(0).partition("=")
        if flag not in FLAGS:
            raise UsageError(
                "bad_flag", f"{verb}: unknown argument {flag}", f"see hostctl {verb} --help"
            )
        if not equals:
            if not rest:
                raise UsageError("bad_flag", f"{verb}: {flag} needs a value")
            value = rest.pop(0)
        fields[FLAGS[flag]] = value
    request = Request(verb, fields)
    request.app(), request.process(), request.release()
    return request


def prepare(host: Host, request: Request) -> tuple[list[str], dict[str, str], str]:
    """The command, its environment and its folder. Raises `HostctlError`."""
    app = settings.app(host, request.app())
    process = settings.process(host, app.name, request.process())
    release = request.release()
    manifest = settings.manifest(host, app, release)
    declared = settings.process_manifest(manifest, process)
    values = settings.placeholders(host, app, process, release)
    command = settings.fill(declared.get("command"), values)
    environment = {
        **os.environ,
        **settings.environment(host, app, manifest),
        "BACKLINE_PROCESS": process.name,
    }
    return command, environment, str(settings.release_folder(host, app, release) / "app")


def execute(host: Host, arguments: list[str]) -> None:
    """Become the process. Returns only by raising `HostctlError`."""
    command, environment, folder = prepare(host, parse(arguments))
    try:
        os.chdir(folder)
        os.execvpe(command[0], command, environment)
    except OSError as error:
        raise HostctlError(
            "exec_failed",
            f"cannot run {command[0]}: {error.strerror}",
            f"look at {folder} and the release's command",
        ) from None


def run(host: Host, arguments: list[str]) -> int:
    """`execute`, with errors as the unit's log wants them: plain text. Returns the exit status."""
    try:
        if host.become and os.geteuid() == 0:  # sudo allows hostctl: it must not lead to root
            raise Refused("root", "a release's process never runs as root", "units run this")
        execute(host, arguments)
    except HostctlError as error:
        print(f"hostctl exec: {error.message}. {error.hint}".rstrip(), file=sys.stderr)
        return error.exit_status
    return FAILED
