"""`hostctl certificates`: when the certificates of this host end.

Read by the few rules of DER that the dates need (X.690, and RFC 5280, 4.1): `ssl` shows them of
live connections alone, and a process for each file would make `fab status` slow.
"""

from __future__ import annotations

import base64
import calendar
import hashlib
import re
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import NamedTuple

from .host import Host
from .names import Request

PEM = re.compile(rb"-----BEGIN CERTIFICATE-----\s+([A-Za-z0-9+/=\s]+?)-----END CERTIFICATE-----")
COMMON_NAME = b"\x55\x04\x03"  # 2.5.4.3
UTC_TIME, GENERALIZED_TIME, SEQUENCE, VERSION_TAG = 0x17, 0x18, 0x30, 0xA0
LIMIT = 1024 * 1024
HAPROXY = "/etc/haproxy/haproxy.cfg"
FILES = (
    ("host", "/etc/backline/pki", "host.pem"),
    ("ca", "/etc/backline/pki", "ca.pem"),
    ("edge", "/etc/haproxy/certificates", "*.pem"),
    ("acme", "/etc/letsencrypt/live", "*/fullchain.pem"),
)
"""What each is called, and where the roles put it."""


class Certificate(NamedTuple):
    """`not_after` is seconds since the epoch, `subject` and `issuer` are common names."""

    subject: str
    issuer: str
    not_after: float
    sha256: str


def certificates(host: Host, request: Request) -> dict[str, object]:
    """The verb `certificates`. Returns {certificates, time}."""
    return {"certificates": known(host), "time": host.wall()}


def known(host: Host) -> list[dict[str, object]]:
    """Every certificate in the known places: {name, path, subject, issuer, not_after, sha256}.

    Of an authority's bundle each one counts, of any other file the first: those after it are its
    issuers. A file that cannot be read is there with a `trouble` instead.
    """
    return [
        {"name": name, "path": f"/{path.relative_to(host.root)}", **entry}
        for name, folder, pattern in FILES
        for path in sorted(host.path(folder).glob(pattern))
        if name != "edge" or _in_use(host, path)
        for entry in _entries(path, every=name == "ca")
    ]


def _in_use(host: Host, path: Path) -> bool:
    """False for a file that HAProxy's configuration does not name: nobody is shown it any more."""
    try:
        return f"/etc/haproxy/certificates/{path.name}" in host.path(HAPROXY).read_text()
    except OSError:
        return True


def _entries(path: Path, every: bool) -> list[dict[str, object]]:
    try:
        with path.open("rb") as file:
            blocks = PEM.findall(file.read(LIMIT))
        found = [parse(base64.b64decode(block)) for block in (blocks if every else blocks[:1])]
    except OSError as error:
        return [{"trouble": f"it cannot be read: {error.strerror}"}]
    except (ValueError, IndexError):
        return [{"trouble": "it cannot be understood"}]
    return [dict(entry._asdict()) for entry in found] or [{"trouble": "it holds no certificate"}]


def parse(der: bytes) -> Certificate:
    """A certificate in DER. Raises `ValueError` or `IndexError` when it is none."""
    fields = list(_fields(_sequence(_sequence(der))))
    if fields[0][0] == VERSION_TAG:  # absent in version 1
        del fields[0]
    _, _, issuer, validity, subject = (content for _, content in fields[:5])
    _, (tag, ends) = _fields(validity)
    return Certificate(
        _common_name(subject),
        _common_name(issuer),
        _moment(tag, ends),
        hashlib.sha256(der).hexdigest(),
    )


def _fields(der: bytes) -> Iterator[tuple[int, bytes]]:
    """(tag, content) of each element in a row of them."""
    at = 0
    while at < len(der):
        tag, size = der[at], der[at + 1]
        at += 2
        if size & 0x80:
            count = size & 0x7F
            size = int.from_bytes(der[at : at + count], "big")
            at += count
        if at + size > len(der):
            raise ValueError("an element is longer than what holds it")
        yield tag, der[at : at + size]
        at += size


def _sequence(der: bytes) -> bytes:
    """The content of the sequence that `der` begins with."""
    for tag, content in _fields(der):
        if tag == SEQUENCE:
            return content
        break
    raise ValueError("no sequence where one belongs")


def _common_name(name: bytes) -> str:
    """The last common name; the last text of a name without one."""
    found = ""
    for _, pairs in _fields(name):
        for _, pair in _fields(pairs):
            (_, kind), (_, value) = _fields(pair)
            if kind == COMMON_NAME:
                return value.decode("utf-8", "replace")
            found = value.decode("utf-8", "replace")
    return found


def _moment(tag: int, content: bytes) -> float:
    """Seconds since the epoch. A year of two digits below 50 is of this century (RFC 5280)."""
    text = content.decode("ascii")
    if tag == UTC_TIME:
        text = ("20" if text[:2] < "50" else "19") + text
    elif tag != GENERALIZED_TIME:
        raise ValueError(f"tag {tag:#x} is no time")
    return float(calendar.timegm(datetime.strptime(text, "%Y%m%d%H%M%SZ").timetuple()))
