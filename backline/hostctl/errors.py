"""What hostctl answers when it will not or cannot do what it was asked."""

from __future__ import annotations

FAILED = 1
USAGE = 2
LEASE_HELD = 5
GUARD_REFUSED = 6
INTERRUPTED = 130


class HostctlError(Exception):
    """A refusal or failure that becomes the `error` object of the answer.

    `code` is stable and for programs, `message` and `hint` are for people, `more` holds further
    fields of the error object. `exit_status` is the process's exit status.
    """

    exit_status = FAILED

    def __init__(self, code: str, message: str, hint: str = "", **more: object) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.hint = hint
        self.more = more

    def as_json(self) -> dict[str, object]:
        """The `error` object of the answer."""
        return {"code": self.code, "message": self.message, "hint": self.hint, **self.more}


class UsageError(HostctlError):
    """The request itself is malformed. Nothing was looked at."""

    exit_status = USAGE


class LeaseHeld(HostctlError):
    """Another run holds the lease of this app on this host."""

    exit_status = LEASE_HELD


class Refused(HostctlError):
    """A guard said no: an old token, a bad signature, a bad digest, a live release."""

    exit_status = GUARD_REFUSED
