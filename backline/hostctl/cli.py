"""Arguments and stdin in, one JSON object and an exit status out."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Any

from . import PROTOCOL, VERSION
from .errors import INTERRUPTED, USAGE, HostctlError, UsageError

if TYPE_CHECKING:
    from .host import Host
    from .names import Request

STDIN_LIMIT = 1024 * 1024

USAGE_TEXT = """usage: hostctl VERB < request.json
       hostctl exec|retire --app APP --process PROCESS --release RELEASE
       hostctl --version | --help | VERB --help

Does one step of a deploy on this host. Reads one JSON object on stdin, writes one on stdout.
Changing verbs (*) need the live lease of the request's run, except lease, want, update,
balance, database, proxy, backup, jobs,
maintenance, cache.
"""
EXIT_TEXT = """
Exit status: 0 done, 1 failed, 2 bad request, 5 lease held by another run, 6 refused by a guard.
"""


class Interrupted(BaseException):
    """A signal asked hostctl to end; everything unfinished is cleaned up on the way out."""


def main(arguments: list[str], host: Host | None = None) -> int:
    """Run one verb. Returns the exit status; `exec` does not return at all when it succeeds."""
    verb = arguments[0] if arguments else ""
    if verb in ("", "-h", "--help", "help"):
        print(help_text(), file=sys.stdout if verb else sys.stderr)
        return 0 if verb else USAGE
    if verb == "--version":
        print(f"hostctl {VERSION} (protocol {PROTOCOL})")
        return 0
    if "--help" in arguments[1:] or "-h" in arguments[1:]:
        print(help_text(verb))
        return 0
    if host is None:
        from .host import Host

        host = Host(yield_cpu=lambda: (os.nice(10), None)[1])
    if verb == "exec":
        from .execute import run

        return run(host, arguments[1:])
    if verb == "upgrades":
        from . import upgrades

        return upgrades.run(host, arguments[1:])
    if verb == "undo":
        from . import undo

        _catch_signals()
        return undo.run(host, arguments[1:])
    if verb == "retire":
        from . import retire

        _catch_signals()
        try:
            return retire.run(host, arguments[1:])
        except Interrupted:  # somebody needs the process again
            return INTERRUPTED
    return _answer(host, verb, arguments[1:])


def help_text(verb: str = "") -> str:
    """What `--help` prints: of hostctl, or of one verb."""
    from .verbs import COMMON, VERBS

    if verb in ("exec", "retire"):
        user = "units" if verb == "exec" else "the timers that `stop` makes"
        return f"hostctl {verb} --app APP --process PROCESS --release RELEASE\n\nFor {user} only."
    if verb == "undo":
        return "hostctl undo proxy|database\n\nFor the timers of these verbs only."
    if verb == "upgrades":
        return "hostctl upgrades\n\nFor the unit that `facts` orders only."
    if verb in VERBS:
        found = VERBS[verb]
        fields = ", ".join(COMMON + found.fields)
        return f"hostctl {verb}: {found.summary}\n\nFields of the request: {fields}\n{EXIT_TEXT}"
    lines = [f"  {name:10}{'*' if v.changes else ' '} {v.summary}" for name, v in VERBS.items()]
    return USAGE_TEXT + "\n" + "\n".join(lines) + "\n" + EXIT_TEXT


def _answer(host: Host, verb: str, rest: list[str]) -> int:
    import json

    _catch_signals()
    status, answer = perform(host, verb, rest)
    try:
        sys.stdout.write(json.dumps(answer) + "\n")
        sys.stdout.flush()
    except BrokenPipeError:  # the controller went away; what was done is in the journal
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    if not answer["ok"]:
        print(f"hostctl {verb}: {answer['error']['message']}", file=sys.stderr)
    return status


def perform(host: Host, verb: str, rest: list[str]) -> tuple[int, dict[str, Any]]:
    """Run a verb with the request on stdin. Returns the exit status and the answer."""
    request = None
    try:
        request = read_request(verb, rest)
        return 0, {"ok": True, **_run(host, request)}
    except HostctlError as error:
        failure = error
    except OSError as error:
        failure = _from_os_error(error)
    except (Interrupted, KeyboardInterrupt) as signal:
        failure = HostctlError(
            "interrupted", f"{verb} was interrupted ({signal}); unfinished work was removed"
        )
        failure.exit_status = INTERRUPTED
    except Exception as error:
        import traceback

        traceback.print_exc()
        said = f"{type(error).__name__}: {error}"
        failure = HostctlError(
            "internal", f"a fault of hostctl itself: {said}", "report it, please"
        )
    if request is not None:
        from .record import refusal

        refusal(host, request, failure)
    return failure.exit_status, {"ok": False, "error": failure.as_json()}


def _run(host: Host, request: Request) -> dict[str, object]:
    import contextlib
    import importlib

    from . import listener
    from .verbs import VERBS

    os.umask(0o022)
    verb = VERBS[request.verb]
    module = importlib.import_module(f".{verb.module}", __package__)
    with contextlib.nullcontext() if verb.changes else listener.listened():
        answer: dict[str, object] = getattr(module, verb.function)(host, request)
    return answer


def read_request(verb: str, rest: list[str]) -> Request:
    """The request on stdin, checked for its form. Raises `UsageError`."""
    from .names import Request
    from .verbs import COMMON, VERBS

    if verb not in VERBS:
        raise UsageError("unknown_verb", f"no verb {verb!r}", "verbs: " + ", ".join(VERBS))
    if rest:
        raise UsageError("bad_argument", f"{verb} takes no arguments, its request is on stdin")
    fields = parse_object(_read_stdin(verb))
    unknown = sorted(set(fields) - set(COMMON) - set(VERBS[verb].fields))
    if unknown:
        raise UsageError(
            "unknown_field",
            f"{verb} knows no field {', '.join(map(repr, unknown))[:200]}; nothing was changed",
            f"fields: {', '.join(COMMON + VERBS[verb].fields)} (or this hostctl is too old)",
        )
    request = Request(verb, fields)
    request.head()  # whatever the verb: a controller that sends a wrong one is told so
    return request


def _read_stdin(verb: str) -> bytes:
    if sys.stdin is None or sys.stdin.isatty():
        raise UsageError("no_request", "no request on stdin", f"try: echo '{{}}' | hostctl {verb}")
    raw = sys.stdin.buffer.read(STDIN_LIMIT + 1)
    if len(raw) > STDIN_LIMIT:
        raise UsageError("too_large", f"the request is larger than {STDIN_LIMIT} bytes")
    return raw


def parse_object(raw: bytes) -> dict[str, object]:
    """A JSON object without repeated keys; nothing at all is an empty one. Raises `UsageError`."""
    import json

    def unique(pairs: list[tuple[str, object]]) -> dict[str, object]:
        found = dict(pairs)
        if len(found) != len(pairs):
            raise ValueError("a key is there twice")
        return found

    def no_constant(name: str) -> object:
        raise ValueError(f"{name} is not JSON")

    if not raw.strip():
        return {}
    try:
        found = json.loads(raw, object_pairs_hook=unique, parse_constant=no_constant)
    except (ValueError, RecursionError) as error:
        raise UsageError("bad_json", f"the request is not JSON: {str(error)[:200]}") from None
    if not isinstance(found, dict):
        raise UsageError("bad_json", "the request is not a JSON object")
    return found


def _from_os_error(error: OSError) -> HostctlError:
    import errno

    where = error.filename or "the disk"
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return HostctlError(
            "disk_full",
            f"no room left for {where}; what was begun was removed, "
            "the running release is untouched",
            "make room (hostctl prune, journalctl --vacuum-size=…), then try again",
        )
    if error.errno in (errno.EACCES, errno.EPERM):
        return HostctlError("not_permitted", f"{error.strerror}: {where}", "run it with sudo")
    return HostctlError("system_error", f"{error.strerror or error}: {where}")


def _catch_signals() -> None:
    """Turn signals into an exception, so that every `finally` and clean-up runs."""
    import signal
    import threading

    def interrupt(number: int, frame: object) -> None:
        raise Interrupted(signal.Signals(number).name)

    if threading.current_thread() is threading.main_thread():
        for number in (signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, interrupt)
