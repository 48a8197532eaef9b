"""What `fab doctor` makes of what it sees: each trouble named, with what to do; nothing else named."""

from __future__ import annotations

import pytest

from backline.operations import doctor
from backline.operations.doctor import BAD, OK, WARN, Finding, KeyFile
from backline.transport.port import HostError, Unreachable


def levels(findings: list[Finding]) -> list[str]:
    return [finding.level for finding in findings]


def test_an_old_python_and_missing_programs() -> None:
    assert doctor.python((3, 11, 7)).level == OK
    assert doctor.python((3, 10, 9)).level == BAD
    found = doctor.tools({name: name != "zstd" for name in doctor.TOOLS})
    assert levels(found) == [OK, BAD]
    assert "zstd" not in found[0].says and found[1].hint == "apt-get install zstd"
    assert levels(doctor.tools(dict.fromkeys(doctor.TOOLS, True))) == [OK]
    assert levels(doctor.tools(dict.fromkeys(set(doctor.TOOLS) - {"uv"}, True))) == [OK, WARN]


def test_room_on_this_machine() -> None:
    gibibytes = [doctor.room("/", int(size * (1 << 30))).level for size in (0.05, 0.5, 5)]
    assert gibibytes == [BAD, WARN, OK]


@pytest.mark.parametrize(
    ("variable", "flag", "level"),
    [
        ("", "", OK),
        ("", "lab", OK),
        ("lab", "lab", OK),
        ("lab", "staging", WARN),
        ("lba", "", BAD),
        ("lba", "lab", BAD),
    ],
)
def test_the_environment_that_the_variable_names(variable: str, flag: str, level: str) -> None:
    found = doctor.chosen(variable, flag, ["lab", "staging"])
    assert found.level == level
    if level == BAD:
        assert "lab, staging" in found.hint


@pytest.mark.parametrize(
    ("key", "agent", "level", "says"),
    [
        (KeyFile("/k", 0o100600), None, OK, "/k"),
        (KeyFile("/k", 0o100400), None, OK, "/k"),
        (KeyFile("/k", None), 3, BAD, "there is no /k"),
        (KeyFile("/k", 0o100644), None, BAD, "mode 0644"),
        (KeyFile("/k", 0o100600, "passphrase"), None, BAD, "no SSH agent has it"),
        (KeyFile("/k", 0o100600, "passphrase"), 0, BAD, "no SSH agent has it"),
        (KeyFile("/k", 0o100600, "passphrase"), 1, OK, "SSH agent"),
        (KeyFile("/k", 0o100600, "not a key"), 1, BAD, "not a key"),
    ],
)
def test_private_keys(key: KeyFile, agent: int | None, level: str, says: str) -> None:
    (found,) = doctor.keys([key], agent)
    assert found.level == level and says in found.says
    assert bool(found.hint) == (level != OK)


def test_without_a_key_in_the_inventory_the_agent_counts() -> None:
    assert levels(doctor.keys([], 2)) == [OK]
    assert levels(doctor.keys([], 0)) == levels(doctor.keys([], None)) == [WARN]


def test_a_signing_key_that_the_hosts_do_not_accept() -> None:
    signers = ['release@backline namespaces="backline-release" ssh-ed25519 AAAA1']
    assert doctor.signing("/k", "AAAA1", signers).level == OK
    assert doctor.signing("/k", "AAAA2", signers).level == WARN
    assert doctor.signing("/k", "", signers).level == WARN


def test_hosts_that_are_not_pinned_are_named_with_the_command_that_pins_them() -> None:
    found = doctor.pinned("known_hosts", ["h1", "h2", "h4"], 5, "stage")
    assert found.level == BAD
    assert found.hint == "fab hosts.trust --env stage --on 'h[1-2,4]'"
    assert doctor.pinned("known_hosts", [], 5, "stage").level == OK


def test_hosts_are_told_of_by_what_keeps_them_away() -> None:
    answers: dict[str, dict[str, object] | HostError] = {"h1": {"time": 1}, "h5": {"time": 1}}
    for name in ("h2", "h3"):
        answers[name] = Unreachable(name, f"{name}: refused", code="refused")
    answers["h6"] = Unreachable(
        "h6", "no host key", code="host_key_unknown", hint="fab hosts.trust h6"
    )
    answers["h4"] = Unreachable("h4", "wrong host key", code="host_key_changed", hint="compare")
    well, refused, key, wrong = doctor.reached(answers)
    assert (well.level, well.says) == (OK, "h[1,5] answer")
    assert refused.level == BAD and refused.says.startswith("h[2-3]: ")
    assert "1 more" in refused.says and refused.hint
    assert key.level == BAD and key.hint == "fab hosts.trust compares and pins"
    jump = Unreachable("h7", "jump host: no key", code="host_key_unknown", hint="by hand")
    assert doctor.reached({"h7": jump})[0].hint == "by hand"
    assert wrong.says == "h4: wrong host key" and wrong.hint == "compare"


def test_a_clock_that_is_off_and_our_own() -> None:
    assert levels(doctor.clocks({"h1": 0.2, "h2": -4.0})) == [OK]
    (one,) = doctor.clocks({"h1": 0.2, "h2": -61.0, "h3": 0.0})
    assert one.level == BAD and "h2 -61 s" in one.says and "h1" not in one.says
    (ours,) = doctor.clocks({"h1": 60.0, "h2": 61.0, "h3": 60.5})
    assert ours.level == BAD and "this machine's clock is -60 s off" in ours.says
    assert doctor.clocks({}) == []


def test_hostctl_older_newer_and_strange() -> None:
    facts = {
        "h1": {"hostctl": "0.4.0", "protocol": 2},
        "h2": {"hostctl": "0.3.9", "protocol": 2},
        "h3": {"hostctl": "0.10.0", "protocol": 2},
        "h4": {"hostctl": "0.1.0", "protocol": 1},
    }
    found = {finding.says: finding for finding in doctor.programs(facts, "0.4.0")}
    assert found["0.4.0 on h1"].level == OK
    assert "next deploy" in found["0.3.9 on h2; ours is 0.4.0"].hint
    assert "git pull" in found["0.10.0 on h3; ours is 0.4.0"].hint
    assert found["h4 speak another protocol than we do"].level == BAD


def test_room_for_releases_on_the_hosts() -> None:
    facts = {"h1": {"disk_free": 5 << 30}, "h2": {"disk_free": 1 << 20}}
    (low,) = doctor.disks(facts)
    assert low.level == WARN and "h2" in low.says and "h1" not in low.says
    assert levels(doctor.disks({"h1": {"disk_free": 5 << 30}})) == [OK]
