"""Host keys: what is pinned in known_hosts, what hosts offer, and what becomes of the file. Pure.

The format is OpenSSH's (sshd(8), "SSH_KNOWN_HOSTS FILE FORMAT"): hashed names are found, lines with
a marker (@revoked, @cert-authority) and comments stay as they are.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

PINNED, NEW, CHANGED, REVOKED = "pinned", "new", "changed", "revoked"
_NUMBERS = re.compile(r"(\d+)")


@dataclass(frozen=True)
class Offer:
    """The keys that a host offers, {type: base64}; `place` is its name in known_hosts."""

    host: str
    place: str
    keys: Mapping[str, str]


@dataclass(frozen=True)
class Key:
    """An offered key beside what is pinned. `was`: the fingerprint that it would replace.

    `twin`: another place of known_hosts, or another host, that has the very same key.
    """

    host: str
    place: str
    type: str
    fingerprint: str
    state: str
    was: str = ""
    twin: str = ""

    def as_json(self) -> dict[str, Any]:
        return {
            "schema_version": 1,
            "event": "host_key",
            **vars(self),
            "was": self.was or None,
            "twin": self.twin or None,
        }


@dataclass(frozen=True)
class _Line:
    """A line of known_hosts that pins one key for some names."""

    names: tuple[str, ...]
    type: str
    blob: str
    rest: str

    def has(self, place: str) -> bool:
        return any(name == place or _hashed(name, place) for name in self.names)

    def without(self, place: str) -> _Line | None:
        names = tuple(n for n in self.names if n != place and not _hashed(n, place))
        return _Line(names, self.type, self.blob, self.rest) if names else None

    def text(self) -> str:
        return " ".join(filter(None, (",".join(self.names), self.type, self.blob, self.rest)))


def compare(
    text: str, offers: Iterable[Offer], revoked: Mapping[str, Collection[str]] | None = None
) -> list[Key]:
    """Each offered key as it stands to the known_hosts in `text`; `revoked`: {host: keys in base64} that
    lines of it forbid.

    Of a host that has pinned keys, none of which it shows any more, all that it offers count as
    changed: nothing proves that it is the same host.
    """
    offers, lines = list(offers), _lines(text)[1]
    found = []
    for offer in offers:
        forbidden = (revoked or {}).get(offer.host, ())
        pinned = _pinned(lines, offer.place, forbidden)
        proven = not pinned or any(pinned.get(kind) == blob for kind, blob in offer.keys.items())
        for kind, blob in sorted(offer.keys.items()):
            state, was = _state(pinned, kind, blob, proven)
            if blob in forbidden:
                state, was = REVOKED, ""
            twin = _twin(lines, offers, offer, blob)
            found.append(Key(offer.host, offer.place, kind, fingerprint(blob), state, was, twin))
    return found


def merged(text: str, offers: Iterable[Offer], keys: Iterable[Key]) -> str:
    """known_hosts with the offered keys in it: sorted, each once; `keys` is what `compare` said. Of two
    keys of one kind under the same names the first, which is the one that counts, stays the first.

    A host of which any key has changed loses all that was pinned for it.
    """
    changed = {key.place for key in keys if key.state == CHANGED}
    kept, lines = _lines(text)
    for place in changed:
        lines = [left for line in lines if (left := line.without(place))]
    for offer in offers:
        for kind, blob in offer.keys.items():
            if not any(line.has(offer.place) and line.blob == blob for line in lines):
                lines.append(_Line((offer.place,), kind, blob, ""))
    pinned = sorted(dict.fromkeys(line.text() for line in lines), key=_in_order)
    return "".join(f"{line}\n" for line in (*kept, *pinned))


def fingerprint(blob: str) -> str:
    """A key as `ssh-keygen -l` shows it: `SHA256:…`."""
    digest = hashlib.sha256(base64.b64decode(blob)).digest()
    return "SHA256:" + base64.b64encode(digest).decode().rstrip("=")


def missing(text: str, places: Mapping[str, str]) -> list[str]:
    """The hosts for whose place known_hosts has no key; `places` is {host: place}."""
    lines = _lines(text)[1]
    plain = {name for line in lines for name in line.names}
    hashed = [line for line in lines if any(name.startswith("|") for name in line.names)]
    return [
        host
        for host, place in places.items()
        if place not in plain and not any(line.has(place) for line in hashed)
    ]


def _pinned(lines: Iterable[_Line], place: str, forbidden: Collection[str]) -> dict[str, str]:
    """The key of each type that a connection expects (transport.pins.Pins.into): the first, those of
    hashed names after the others, and one that is revoked only for want of another."""
    held = [line for line in lines if line.has(place)]
    held.sort(key=lambda line: (line.blob in forbidden, place not in line.names))
    pinned: dict[str, str] = {}
    for line in held:
        pinned.setdefault(line.type, line.blob)
    return pinned


def _state(pinned: Mapping[str, str], kind: str, blob: str, proven: bool) -> tuple[str, str]:
    if pinned.get(kind) == blob:
        return PINNED, ""
    if kind in pinned:
        return CHANGED, fingerprint(pinned[kind])
    if not proven:
        return CHANGED, ", ".join(fingerprint(other) for other in pinned.values())
    return NEW, ""


def _twin(lines: Iterable[_Line], offers: Iterable[Offer], offer: Offer, blob: str) -> str:
    others = [other.host for other in offers if other is not offer and blob in other.keys.values()]
    for line in lines:
        if line.blob == blob and not line.has(offer.place):
            others.append(line.names[0])
    return others[0] if others else ""


def _lines(text: str) -> tuple[list[str], list[_Line]]:
    """What stays as it is (comments, markers, what is not understood), and the lines that pin."""
    kept, lines = [], []
    for line in text.splitlines():
        words = line.split(None, 3)
        if not line.strip():
            continue
        if line.startswith(("#", "@")) or len(words) < 3 or not _is_base64(words[2]):
            kept.append(line)
        else:
            rest = words[3] if len(words) > 3 else ""
            lines.append(_Line(tuple(words[0].split(",")), words[1], words[2], rest))
    return kept, lines


def _is_base64(word: str) -> bool:
    try:
        return bool(base64.b64decode(word, validate=True))
    except (binascii.Error, ValueError):
        return False


def _hashed(name: str, place: str) -> bool:
    """Whether `name` is the hash of `place`: |1|salt|HMAC-SHA1 of it with the salt."""
    parts = name.split("|")
    if len(parts) != 4 or parts[:2] != ["", "1"]:
        return False
    try:
        salt, digest = base64.b64decode(parts[2]), base64.b64decode(parts[3])
    except (binascii.Error, ValueError):
        return False
    return hmac.compare_digest(hmac.new(salt, place.encode(), hashlib.sha1).digest(), digest)


def _in_order(line: str) -> list[tuple[int, int, str]]:
    """stream2 before stream10, by names and kind of key."""
    parts = _NUMBERS.split(" ".join(line.split()[:2]))
    return [(1, int(part), "") if part.isdecimal() else (0, 0, part) for part in parts]
