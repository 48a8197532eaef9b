"""Which hosts a pattern means: Ansible's patterns, decided on the cached inventory.

`streaming:&zone_a:!stream3`, `web*`, `~stream[12]`, `streaming[0]`, `streaming[0:1]` mean what they
mean to Ansible (a test compares the two). In addition a folded range of hosts, as this program prints
them (`stream[1-3]`, `db[1,3]`), means those hosts.

Two differences. A slice of a group has a colon: to Ansible `stream[1-2]` is one as well, of a group
`stream`. And where Ansible leaves out what is empty or broken, and so means more hosts than were
written (`all:!` is all, `streaming[` is streaming), such a pattern is refused. An unset variable of the
shell looks like that.
"""

from __future__ import annotations

import difflib
import fnmatch
import re
from collections.abc import Callable, Iterable

from backline.errors import BacklineError
from backline.inventory import Environment

EVERYTHING = "all"
Fits = Callable[[str], object]
_BRACKETS = re.compile(r"\[[^\]]*\]")
_NOBODY = "__________"
"""A name that nobody has: a regular expression that fits it and `all` as well fits every name."""
_SIGNS = "!&~"
_SPECIAL = set(".?*[")
_RANGE = re.compile(r"\[[\d,-]*\d[-,]\d[\d,-]*\]")
_RANGE_ENDS = re.compile(r"\[\d[\d,-]*[-,][\d,-]*\]$")
_SUBSCRIPT = re.compile(r"^(.+)\[(?:(-?\d+)|(\d+):(\d*))\]$")


def select(environment: Environment, pattern: str) -> list[str]:
    """The hosts that `pattern` means, in inventory order.

    Raises BacklineError when a part of the pattern names nothing in the inventory (also after `!`:
    a host that was to be spared must not be touched because of a typing error), when a part is empty
    or broken (see split), or when the parts together leave no host.
    """
    chosen: set[str] = set()
    terms = split(pattern)
    positive = [term for term in terms if term[0] not in "!&"]
    for term in positive or [EVERYTHING]:
        chosen.update(_matches(environment, term))
    for sign, keep in (("&", True), ("!", False)):
        for term in terms:
            if term[0] == sign:
                found = set(_matches(environment, term[1:]))
                chosen = chosen & found if keep else chosen - found
    if not chosen:
        raise BacklineError(
            f"host pattern {pattern!r} leaves no host of environment {environment.name!r}",
            state="nothing was changed",
            hint=f"groups: {', '.join(environment.groups)}",
        )
    return [name for name in environment.hosts if name in chosen]


def split(pattern: str) -> list[str]:
    """The parts of a pattern: apart at commas if it has any, else at colons, outside of brackets.

    Raises BacklineError for a part that is empty or a sign alone, and for brackets that do not match.
    """
    pattern = pattern.strip()
    hidden = _BRACKETS.sub(lambda found: "_" * len(found[0]), pattern)
    if "[" in hidden or "]" in hidden:
        raise _broken(pattern, "has a bracket without its other one")
    between = r"\s*,\s*" if "," in hidden else r"\s*:\s*|\s+"
    cuts = [found.span() for found in re.finditer(between, hidden)]
    starts, ends = [0, *(end for _, end in cuts)], [*(start for start, _ in cuts), len(pattern)]
    parts = [pattern[start:end] for start, end in zip(starts, ends, strict=True)]
    for part in parts:
        if not part.strip(_SIGNS):
            raise _broken(pattern, f"has {part!r} for a part" if part else "has an empty part")
    return parts


def fold(hosts: Iterable[str]) -> str:
    """Host names as short as they can be written: `stream[1-3],worker1`."""
    from ClusterShell.NodeSet import NodeSet

    return str(NodeSet.fromlist(list(hosts)))


def unfold(folded: str) -> list[str]:
    """The host names that `fold` wrote."""
    from ClusterShell.NodeSet import NodeSet

    return list(NodeSet(folded))


def _matches(environment: Environment, term: str) -> list[str]:
    if term in environment.hosts:
        return [term]
    if term.startswith("~"):
        found = _named(environment, _regex(term), True)
    else:
        folded = _folded(environment, term) if _RANGE.search(term) else None
        if folded is not None:
            return folded
        if _RANGE_ENDS.search(term):
            raise _nothing(environment, term)
        base, cut = _subscript(term)
        fits = re.compile(fnmatch.translate(base)).match
        found = _named(environment, fits, not _SPECIAL.isdisjoint(base))
        if found and cut:
            found = found[cut]
    if found is None:
        raise _nothing(environment, term)
    return found


def _regex(term: str) -> Fits:
    """What a term `~regular expression` asks of a name."""
    try:
        fits = re.compile(term[1:]).match
    except (re.error, OverflowError, RecursionError) as error:
        raise _broken(term, f"is no regular expression: {error}") from None
    if fits(EVERYTHING) and fits(_NOBODY):
        raise _broken(term, "fits every host")
    return fits


def _named(environment: Environment, fits: Fits, hosts_too: bool) -> list[str] | None:
    """Hosts of the groups whose name fits, and hosts whose own name fits; None if no name does.

    As in Ansible a plain word that names a group does not name a host as well, and a host that is
    meant twice counts twice when the pattern goes on with a subscript.
    """
    everything = {EVERYTHING: tuple(environment.hosts)}
    groups = [members for name, members in (everything | environment.groups).items() if fits(name)]
    hosts = [name for name in environment.hosts if fits(name)] if hosts_too or not groups else []
    if not groups and not hosts:
        return None
    return [host for members in groups for host in members] + hosts


def _subscript(term: str) -> tuple[str, slice | None]:
    """`group[1]`, `group[-1]`, `group[0:2]` (both ends count, as in Ansible) → base and slice."""
    match = _SUBSCRIPT.match(term)
    if not match:
        return term, None
    base, single, start, end = match.groups()
    if single is not None:
        index = int(single)
        return base, slice(index, index + 1 or None)
    return base, slice(int(start), int(end) + 1 if end else None)


def _folded(environment: Environment, term: str) -> list[str] | None:
    """The hosts of a folded range, `stream[1-3]` or `db[1,3]`, if every one is in the inventory."""
    from ClusterShell.NodeSet import NodeSet, NodeSetException

    try:
        names = list(NodeSet(term))
    except NodeSetException:
        return None
    return names if names and all(name in environment.hosts for name in names) else None


def _broken(pattern: str, why: str) -> BacklineError:
    return BacklineError(
        f"host pattern {pattern!r} {why}" if pattern else "an empty host pattern means no host",
        state="nothing was changed",
        hint="a variable that is not set? Every host is `all`; a pattern is such as streaming:!stream3",
    )


def _nothing(environment: Environment, term: str) -> BacklineError:
    names = [EVERYTHING, *environment.groups, *environment.hosts]
    close = difflib.get_close_matches(term, names, n=3)
    advice = f"did you mean {' or '.join(close)}? " if close else ""
    if _RANGE_ENDS.search(term):
        advice += "a dash or comma names hosts, all of which must be there; a slice is group[0:1]. "
    shown = (
        fold(environment.hosts) if len(environment.hosts) <= 200 else f"{len(environment.hosts)}"
    )
    return BacklineError(
        f"{term!r} is neither a group nor a host of environment {environment.name!r}",
        state="nothing was changed",
        hint=f"{advice}groups: {', '.join(environment.groups)}; hosts: {shown}",
    )
