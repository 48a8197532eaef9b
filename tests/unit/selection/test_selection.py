"""Our patterns mean what they mean to Ansible; typing errors are named, not ignored."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from backline.errors import BacklineError
from backline.inventory import Environment, Host
from backline.selection import fold, select

HOSTS = {
    "edge1": ("edge", "zone_a"),
    "edge2": ("edge", "zone_b"),
    "stream1": ("streaming", "zone_a"),
    "stream2": ("streaming", "zone_b"),
    "stream10": ("streaming", "zone_a"),
    "db.one": ("database", "zone_a"),
    "worker1": ("worker", "zone_b"),
}
GROUPS = ("edge", "zone_a", "zone_b", "streaming", "database", "worker", "stream1_twin")


def environment() -> Environment:
    members = {group: tuple(h for h, g in HOSTS.items() if group in g) for group in GROUPS}
    hosts = {
        name: Host(name, name, 22, "deploy", None, None, None, groups)
        for name, groups in HOSTS.items()
    }
    return Environment("test", Path("/nowhere"), hosts, members, False, ())


@pytest.mark.parametrize(
    ("pattern", "hosts"),
    [
        ("all", list(HOSTS)),
        ("*", list(HOSTS)),
        ("streaming", ["stream1", "stream2", "stream10"]),
        ("streaming:&zone_a", ["stream1", "stream10"]),
        ("streaming:&zone_a:!stream10", ["stream1"]),
        ("streaming,&zone_a,!stream10", ["stream1"]),
        ("!edge:!streaming:!database", ["worker1"]),
        ("&zone_b", ["edge2", "stream2", "worker1"]),
        ("stream*:worker1", ["stream1", "stream2", "stream10", "worker1"]),
        ("~(edge|stream)[12]$", ["edge1", "edge2", "stream1", "stream2"]),
        ("streaming[0]", ["stream1"]),
        ("streaming[-1]", ["stream10"]),
        ("streaming[0:1]", ["stream1", "stream2"]),
        ("streaming[1:]", ["stream2", "stream10"]),
        ("db.one", ["db.one"]),
        ("stream[1-2]", ["stream1", "stream2"]),
        ("stream[1-2,10],edge1", ["edge1", "stream1", "stream2", "stream10"]),
        (" streaming : !stream2 ", ["stream1", "stream10"]),
        ("streaming , !stream2", ["stream1", "stream10"]),
        ("edge1 worker1", ["edge1", "worker1"]),
        ("stream[1,10]:!stream1", ["stream10"]),
        ("!db.one", [host for host in HOSTS if host != "db.one"]),
        ("~(edge|worker)1", ["edge1", "worker1"]),
        ("~stream.*", ["stream1", "stream2", "stream10"]),
        ("~.*ker", ["worker1"]),
        (r"~^edge\d", ["edge1", "edge2"]),
        ("~(?=.*2)", ["edge2", "stream2"]),
        ("~^(stream1|)$", ["stream1"]),
    ],
)
def test_patterns(pattern: str, hosts: list[str]) -> None:
    assert select(environment(), pattern) == hosts


@pytest.mark.parametrize(
    ("pattern", "says", "hint"),
    [
        ("streming", "'streming' is neither", "did you mean streaming"),
        ("all:!straem1", "'straem1' is neither", "stream1"),
        ("streaming:&zone_c", "'zone_c' is neither", "zone_a"),
        ("edge:&worker", "leaves no host", "groups: edge"),
        ("stream1_twin", "leaves no host", "groups"),
        ("stream[7-9]", "'stream[7-9]' is neither", "stream[1-2,10]"),
        ("stream[1-3,10]", "'stream[1-3,10]' is neither", "stream[1-2,10]"),
        ("edge[0-1]", "'edge[0-1]' is neither", "a slice is group[0:1]"),
        ("edge[1-3]", "'edge[1-3]' is neither", "a slice is group[0:1]"),
        ("streaming[1-]", "'streaming[1-]' is neither", "a slice is group[0:1]"),
        ("str*[0-1]", "'str*[0-1]' is neither", "a slice is group[0:1]"),
        ("[es]*[0-1]", "'[es]*[0-1]' is neither", "a slice is group[0:1]"),
    ],
)
def test_what_matches_nothing_is_an_error_with_advice(pattern: str, says: str, hint: str) -> None:
    with pytest.raises(BacklineError) as raised:
        select(environment(), pattern)
    assert says in raised.value.message
    assert hint in raised.value.hint


EMPTY = "an empty host pattern"
PART = "has an empty part"
EVERY = "fits every host"
BRACKET = "has a bracket without its other one"


@pytest.mark.parametrize(
    ("pattern", "says"),
    [
        ("", EMPTY),
        (" ", EMPTY),
        (",", PART),
        (":", PART),
        (" , ", PART),
        ("streaming,", PART),
        (",streaming", PART),
        ("streaming::edge", PART),
        ("streaming:", PART),
        ("streaming,,edge", PART),
        ("!", "has '!' for a part"),
        ("&", "has '&' for a part"),
        ("~", "has '~' for a part"),
        ("!~", "has '!~' for a part"),
        ("all:!", "has '!' for a part"),
        ("all,!", "has '!' for a part"),
        ("streaming:!", "has '!' for a part"),
        ("streaming:&", "has '&' for a part"),
        ("streaming:! stream1", "has '!' for a part"),
        ("streaming[", BRACKET),
        ("streaming]", BRACKET),
        ("streaming[0", BRACKET),
        ("streaming[0]]", BRACKET),
        ("edge,streaming[", BRACKET),
        ("streaming[]", "is neither"),
        ("~str(", "is no regular expression: missing )"),
        ("all:!~*", "is no regular expression: nothing to repeat"),
        ("~stream1|", EVERY),
        ("~|stream1", EVERY),
        ("~(|stream2)", EVERY),
        ("~^(stream1|)", EVERY),
        ("~(edge|)(|stream)", EVERY),
        (r"~(|stream2)\b", EVERY),
        ("~(|stream).*", EVERY),
        ("~()", EVERY),
        ("~^", EVERY),
        ("~.*", EVERY),
        ("edge,~^()", EVERY),
        ("all:!~(|stream2)", EVERY),
        ("all,!!db.one", "is neither"),
    ],
)
def test_what_is_empty_or_broken_means_no_host_instead_of_more_of_them(
    pattern: str, says: str
) -> None:
    """`--on "all:!$HOST"` of a shell in which HOST is not set: all but one were to be touched, not all."""
    with pytest.raises(BacklineError) as raised:
        select(environment(), pattern)
    assert says in raised.value.message
    assert raised.value.state == "nothing was changed" and raised.value.hint


def test_folding() -> None:
    assert fold(["stream1", "stream2", "stream10", "edge1"]) == "edge1,stream[1-2,10]"


@given(hosts=st.lists(st.sampled_from([*HOSTS]), min_size=1, unique=True))
def test_what_is_folded_selects_exactly_these_hosts(hosts: list[str]) -> None:
    """`edge[1-2]` is printed of edge1 and edge2: to Ansible it is the rest of the group edge, edge2."""
    assert set(select(environment(), fold(hosts))) == set(hosts)


NAMES = st.sampled_from(
    [*HOSTS, *GROUPS, "all", "stream*", "zone_*", "*1", "e?ge2", "~.*2$", "~st", "[es]*"]
)
TERMS = st.builds(
    lambda sign, name, cut: sign + name + (cut if name[0] != "~" else ""),
    st.sampled_from(["", "", "", "&", "!"]),
    NAMES,
    st.sampled_from(["", "", "", "[0]", "[0:1]", "[1:]", "[-1]"]),
)


@pytest.fixture(scope="module")
def ansible(tmp_path_factory: pytest.TempPathFactory) -> object:
    from ansible.inventory.manager import InventoryManager
    from ansible.parsing.dataloader import DataLoader

    lines = [*HOSTS]
    for group in GROUPS:
        lines += [f"[{group}]", *(host for host, groups in HOSTS.items() if group in groups)]
    source = tmp_path_factory.mktemp("inventory") / "hosts.ini"
    source.write_text("\n".join(lines) + "\n")
    return InventoryManager(loader=DataLoader(), sources=[str(source)])


@settings(max_examples=150, deadline=None)
@given(terms=st.lists(TERMS, min_size=1, max_size=4), separator=st.sampled_from([":", ","]))
def test_ansible_agrees(ansible: object, terms: list[str], separator: str) -> None:
    from ansible.errors import AnsibleError

    pattern = separator.join(terms)
    try:
        theirs = {host.name for host in ansible.get_hosts(pattern)}  # type: ignore[attr-defined]
    except AnsibleError:  # a subscript beyond the end
        theirs = set()
    try:
        ours = set(select(environment(), pattern))
    except BacklineError:
        ours = set()
    assert ours == theirs, pattern


@settings(max_examples=150, deadline=None)
@given(
    terms=st.lists(TERMS, max_size=3),
    nothing=st.sampled_from(
        ["", " ", "!", "&", "~", "!~", "&~", " ! ", "edge[", "edge]", "~(", "!~["]
    ),
    place=st.integers(0, 3),
    separator=st.sampled_from([":", ",", " : ", " , "]),
)
def test_a_part_that_is_nothing_is_refused_wherever_it_stands(
    terms: list[str], nothing: str, place: int, separator: str
) -> None:
    # `edge[` and `edge1[0]` behind it are one part with a set of characters: `edge[:edge1[0]`.
    assume("[" not in nothing or not any("]" in term for term in terms[place:]))
    assume("]" not in nothing or not any("[" in term for term in terms[:place]))
    pattern = separator.join([*terms[:place], nothing, *terms[place:]])
    with pytest.raises(BacklineError):
        select(environment(), pattern)


@settings(max_examples=300, deadline=None)
@given(pattern=st.text("ae12dgwst*~!&:,[]()|?. -", max_size=12))
def test_no_pattern_is_a_traceback(pattern: str) -> None:
    try:
        hosts = select(environment(), pattern)
    except BacklineError:
        return
    assert hosts
