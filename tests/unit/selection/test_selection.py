"""Our patterns mean what they mean to Ansible; typing errors are named, not ignored."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
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
    ],
)
def test_what_matches_nothing_is_an_error_with_advice(pattern: str, says: str, hint: str) -> None:
    with pytest.raises(BacklineError) as raised:
        select(environment(), pattern)
    assert says in raised.value.message
    assert hint in raised.value.hint


def test_folding() -> None:
    assert fold(["stream1", "stream2", "stream10", "edge1"]) == "edge1,stream[1-2,10]"


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
