"""Migrations: the release's commands, as the app, once."""

from __future__ import annotations

import pytest

from backline.hostctl import envfile
from backline.hostctl.errors import HostctlError

from .fake_host import R1, R2, Lab


def plant(lab: Lab, *expand: list[str]) -> None:
    lab.plant(R1, migrations={"expand": list(expand), "contract": [["sh", "-c", "echo gone"]]})
    lab.take()


def test_migrations_run_once_in_the_app_folder_with_the_app_environment(lab: Lab) -> None:
    plant(
        lab,
        ["sh", "-c", "pwd; echo $BACKLINE_RELEASE ${JUKEBOX_SECRET_KEY} >> ran"],
        ["sh", "-c", "echo second {release} $JUKEBOX_SECRET_KEY"],
    )
    answer = lab.ok("migrate", release=R1, phase="expand")
    assert (answer["ran"], answer["already"]) == (2, False)
    assert answer["output"] == f"{lab.releases / R1 / 'app'}\nsecond {R1} ***\n"
    again = lab.ok("migrate", release=R1, phase="expand")
    assert (again["ran"], again["already"]) == (0, True)
    assert (lab.releases / R1 / "app/ran").read_text() == f"{R1} s3cret-value\n"
    assert lab.ok("migrate", release=R1, phase="contract")["output"] == "gone\n"
    assert lab.ok("status")["releases"][0]["migrated"] == ["expand", "contract"]


def test_a_failing_migration_is_told_and_tried_again(lab: Lab) -> None:
    plant(lab, ["sh", "-c", "echo one"], ["sh", "-c", "echo no column $JUKEBOX_SECRET_KEY; exit 4"])
    for _ in range(2):
        status, answer = lab.call("migrate", release=R1, phase="expand")
        assert (status, answer["error"]["code"]) == (1, "migration_failed")
        assert "2 of 2" in answer["error"]["message"]
        assert answer["error"]["output"] == "one\nno column ***\n"
    assert lab.ok("status")["releases"][0]["migrated"] == []


def test_a_migration_that_hangs_is_killed_with_its_children(lab: Lab) -> None:
    plant(lab, ["sh", "-c", "sleep 60 & wait"])
    status, answer = lab.call("migrate", release=R1, phase="expand", deadline=1)
    assert "deadline" in answer["error"]["message"]


def test_unknown_placeholders_and_programs_are_clear_errors(lab: Lab) -> None:
    plant(lab, ["{vnev}/bin/python"])
    assert lab.refused("migrate", release=R1, phase="expand") == (1, "unknown_placeholder")
    lab.plant(R2, migrations={"expand": [["/nonexistent"]]})
    _, answer = lab.call("migrate", release=R2, phase="expand")
    assert "nonexistent" in answer["error"]["output"]


def test_no_migrations_is_fine(lab: Lab) -> None:
    lab.plant(R1)
    lab.take()
    assert lab.ok("migrate", release=R1, phase="expand")["ran"] == 0
    assert lab.refused("migrate", release=R1, phase="later")[0] == 2


# Left: lines of a file. Right: what systemd 252 made of them (systemd-run -p EnvironmentFile=).
SYSTEMD = [
    ("# comment\n; other", {}),
    ("A=a b", {"A": "a b"}),
    ("  A=x  ", {"A": "x"}),
    ("A=a=b", {"A": "a=b"}),
    (r'A="a \"b\" \$c \\ \x `d` $e"', {"A": r'a "b" $c \ \x `d` $e'}),
    ("A='a \"b\" \\n \\'", {"A": 'a "b" \\n \\'}),
    ('A="a"b\'c\'"d"', {"A": "ab'c'\"d\""}),
    ("A=\"a\"  'b'", {"A": "ab"}),
    ('A=a"b"', {"A": 'a"b"'}),
    ("A=", {"A": ""}),
    ('A=""', {"A": ""}),
    (r"A=a\\b\"c\x", {"A": 'a\\b"cx'}),
    ("A=a\\\nb\nB=c", {"A": "ab", "B": "c"}),
    ('A="a\\\nb"', {"A": "ab"}),
    ("A=a#b # c", {"A": "a#b # c"}),
    ('A="x"   ', {"A": "x"}),
    ('A="J\u00fcrgen\'s"', {"A": "J\u00fcrgen's"}),
]


@pytest.mark.parametrize(("text", "expected"), SYSTEMD)
def test_environment_files_are_read_as_systemd_reads_them(
    lab: Lab, text: str, expected: dict[str, str]
) -> None:
    path = lab.path("env")
    path.write_text(text + "\n")
    assert envfile.read(path) == expected


@pytest.mark.parametrize("text", ["NAME\n", "1A=x\n", 'A="secret\n'])
def test_a_bad_environment_file_is_named_without_its_content(lab: Lab, text: str) -> None:
    path = lab.path("env")
    path.write_text("GOOD=1\n" + text)
    with pytest.raises(HostctlError, match="line 2") as caught:
        envfile.read(path)
    assert "secret" not in str(caught.value)
