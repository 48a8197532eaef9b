"""The wire format of hostctl: a command line and JSON on stdin, one JSON object on stdout."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from backline.transport.port import Answer, HostError, Reply

PROTOCOL = 2
PROGRAM = "/usr/local/bin/hostctl"


def request(verb: str, fields: Mapping[str, Any]) -> tuple[str, bytes]:
    """The remote command line and what it reads on stdin."""
    return f"sudo -n {PROGRAM} {verb}", json.dumps(dict(fields)).encode()


def answer(host: str, verb: str, reply: Reply) -> Answer:
    """The answer in a reply. Raises HostError with hostctl's own code, message and hint."""
    try:
        content = json.loads(reply.stdout)
        ok = bool(content["ok"])
    except (ValueError, KeyError, TypeError):
        raise _no_answer(host, verb, reply) from None
    if ok:
        return dict(content)
    error = content.get("error") or {}
    raise HostError(
        host,
        str(error.get("message") or f"hostctl {verb} failed"),
        code=str(error.get("code") or "error"),
        hint=str(error.get("hint") or ""),
        exit_code=reply.code or 1,
        details=error,
    )


def _no_answer(host: str, verb: str, reply: Reply) -> HostError:
    said = reply.stderr.decode(errors="replace").strip()[-500:]
    missing = reply.code == 127 or "command not found" in said or "No such file" in said
    if missing or "a password is required" in said or "not allowed to execute" in said:
        return HostError(
            host,
            f"hostctl is not there, or the deploy user may not run it: {said}",
            code="no_hostctl",
            hint="build the host first: fab provision --env … --on " + host,
        )
    return HostError(
        host, f"hostctl {verb} gave no answer (exit {reply.code}): {said}", code="no_answer"
    )
