"""Finds damage in files of the repository that `pgbackrest verify` does not read.

It reads what it has checksums for: backups and WAL. For files that it keeps twice it takes whichever
is good, and says nothing of the other; timelines' histories, backups' labels in the archive and old
manifests it never opens. All of them are encrypted, so that one wrong bit makes sixteen bytes of noise.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Callable, Iterable, Iterator

from .errors import BackupError

COPY = ".copy"
TWICE = re.compile(r"(^|/)(archive\.info|backup\.info|backup\.manifest)$")
TEXT = re.compile(r"\.(history|backup)$")
PACKED = re.compile(r"\.manifest\.gz$")
PLAIN = frozenset(b"\t\n" + bytes(range(32, 127)))
GZIP = 31

Get = Callable[[str], bytes]
"""A file of the repository, decrypted. Raises BackupError."""


def faults(paths: Iterable[str], get: Get) -> Iterator[str]:
    """What is wrong with the files among `paths` that are of these kinds, a line each."""
    for path in sorted(paths):
        try:
            if TWICE.search(path) and get(path) != get(path + COPY):
                yield f"{path} and its copy differ"
            elif TEXT.search(path) and not PLAIN.issuperset(get(path)):
                yield f"{path} is no text"
            elif PACKED.search(path) and not unpacks(get(path)):
                yield f"{path} does not unpack"
        except BackupError as error:
            yield f"{path} cannot be read: {error.why}"


def unpacks(content: bytes) -> bool:
    """Whether it is gzip's format, whole, with the right checksum."""
    unpacker = zlib.decompressobj(GZIP)
    try:
        unpacker.decompress(content)
    except zlib.error:
        return False
    return unpacker.eof and not unpacker.unused_data
