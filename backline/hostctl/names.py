"""The names that become paths and unit names, and the fields of a request.

Everything that arrives on stdin passes through `Request`: no other module reads it raw.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping

from .errors import UsageError

RELEASE = re.compile(r"[0-9]{8}T[0-9]{6}Z-[0-9a-f]{7}")
APP = re.compile(r"[a-z][a-z0-9-]{0,30}")
PROCESS = re.compile(r"[a-z][a-z0-9-]{0,40}")
SERVER = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._:-]{0,252}")  # of HAProxy, and its backends
RUN = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:@+-]{0,127}")
SHA256 = re.compile(r"[0-9a-f]{64}")
RESERVED_APPS = frozenset({"incoming"})  # /var/lib/backline/incoming is the folder of uploads

MISSING = object()
TEXT_LIMIT = 500


def is_release(value: object) -> bool:
    """True when `value` is a release ID such as 20261122T190500Z-1a2b3c4."""
    return isinstance(value, str) and RELEASE.fullmatch(value) is not None


class Request:
    """One request: a verb and its fields, every one checked when it is read.

    All readers raise `UsageError` (exit status 2), naming the field and what it should hold.
    """

    def __init__(self, verb: str, fields: Mapping[str, object]) -> None:
        self.verb = verb
        self.fields = dict(fields)

    def app(self) -> str:
        """The app's name."""
        name = self._matching("app", APP, "a name like jukebox")
        if name in RESERVED_APPS:
            raise UsageError("bad_field", f"app: {name!r} is a reserved name")
        return name

    def release(self, field: str = "release") -> str:
        """A release ID."""
        return self._matching(field, RELEASE, "a release ID like 20261122T190500Z-1a2b3c4")

    def process(self) -> str:
        """The name of a process on this host."""
        return self._matching("process", PROCESS, "a process of this host like web")

    def run(self) -> str:
        """The run ID of the controller."""
        return self._matching("run", RUN, "the run ID")

    def server(self, field: str = "server") -> str:
        """The name of a server behind a balancer, or of a member of a cluster."""
        return self._matching(field, SERVER, "the name of a server like stream1")

    def token(self) -> int:
        """The fencing token of the run: a positive integer."""
        return self.integer("token", minimum=1, maximum=2**53)

    def head(self) -> dict[str, object] | None:
        """The end of the controller's journal, {seq, hash}, when it sent this; or None."""
        if not self.has("head"):
            return None
        value = self.fields["head"]
        if isinstance(value, dict) and set(value) == {"seq", "hash"}:
            seq, digest = value["seq"], value["hash"]
            is_number = isinstance(seq, int) and not isinstance(seq, bool) and 0 <= seq <= 2**53
            if is_number and isinstance(digest, str) and SHA256.fullmatch(digest):
                return {"seq": seq, "hash": digest}
        raise self._wrong("head", '{"seq": a whole number, "hash": a SHA-256}')

    def has(self, field: str) -> bool:
        """True when the field was sent and is not null."""
        return self.fields.get(field) is not None

    def text(self, field: str, default: str = "") -> str:
        """Free text for people, on one line, cut to 500 characters."""
        value = self.fields.get(field)
        if value is None:
            return default
        if not isinstance(value, str):
            raise self._wrong(field, "text")
        return "".join(c if c.isprintable() else " " for c in value)[:TEXT_LIMIT]

    def mapping(self, field: str, limit: int) -> dict[str, object]:
        """A JSON object of at most `limit` bytes, encoded."""
        value = self.fields.get(field)
        if not isinstance(value, dict):
            raise self._wrong(field, "a JSON object")
        size = len(json.dumps(value, separators=(",", ":")))  # ASCII only: characters are bytes
        if size > limit:
            raise UsageError(
                "too_large", f"{self.verb}: {field} has {size} bytes, {limit} are allowed"
            )
        return value

    def choice(self, field: str, choices: tuple[str, ...]) -> str:
        """One of `choices`."""
        value = self.fields.get(field)
        if value not in choices:
            raise self._wrong(field, "one of " + ", ".join(choices))
        return str(value)

    def boolean(self, field: str, default: bool = False) -> bool:
        """true or false."""
        value = self.fields.get(field, default)
        if not isinstance(value, bool):
            raise self._wrong(field, "true or false")
        return value

    def integer(self, field: str, default: object = MISSING, *, minimum: int, maximum: int) -> int:
        """A whole number within [minimum, maximum]."""
        value = self.fields.get(field, default)
        is_integer = isinstance(value, int) and not isinstance(value, bool)
        if not is_integer or not minimum <= value <= maximum:  # type: ignore[operator]
            raise self._wrong(field, f"a whole number from {minimum} to {maximum}")
        return value  # type: ignore[return-value]

    def seconds(self, field: str, default: float, *, minimum: float, maximum: float) -> float:
        """A time in seconds within [minimum, maximum]."""
        value = self.fields.get(field, default)
        is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
        if not is_number or not minimum <= value <= maximum:  # type: ignore[operator]
            raise self._wrong(field, f"seconds from {minimum:g} to {maximum:g}")
        return float(value)  # type: ignore[arg-type]

    def _matching(self, field: str, pattern: re.Pattern[str], expected: str) -> str:
        value = self.fields.get(field)
        if not isinstance(value, str) or pattern.fullmatch(value) is None:
            raise self._wrong(field, expected)
        return value

    def _wrong(self, field: str, expected: str) -> UsageError:
        if field not in self.fields:
            return UsageError("missing_field", f"{self.verb}: {field} is missing: {expected}")
        shown = repr(self.fields[field])[:80]
        return UsageError("bad_field", f"{self.verb}: {field} must be {expected}, not {shown}")
