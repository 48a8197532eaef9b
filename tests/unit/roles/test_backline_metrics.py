"""What the monitor hears of a host's releases: the program as its unit runs it, on a host's files."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

PROGRAM = Path(__file__).parents[3] / "roles/exporters/files/backline-metrics"
NEW, OLD = "20261123T021057Z-cf75036", "20260101T000000Z-0000001"
SINCE = 1_790_000_000
LABEL = r'[a-z_]+="(?:[^"\\\n]|\\["\\n])*"'
SAMPLE = re.compile(rf"([a-z_]+)(?:\{{({LABEL}(?:,{LABEL})*)\}})? (\S+)")
Samples = dict[tuple[str, ...], float]


class Told:
    """A host's files below a folder, and what the program makes of them."""

    def __init__(self, folder: Path) -> None:
        self.root, self.target = folder / "root", folder / "out" / "backline.prom"
        self.root.mkdir()
        self.target.parent.mkdir()

    def app(self, name: str, **files: object) -> Path:
        """Declares an app; `state`, `lease` and `journal` are written as they are given."""
        (self.root / "etc/backline/apps" / name).mkdir(parents=True)
        folder = self.root / "var/lib/backline" / name
        folder.mkdir(parents=True)
        for stem, content in files.items():
            file = folder / ("journal.jsonl" if stem == "journal" else f"{stem}.json")
            file.write_text(content if isinstance(content, str) else json.dumps(content))
        return folder

    def live(self, name: str, since: float) -> None:
        """The link that a switch makes."""
        link = self.root / "srv" / name / "current"
        link.parent.mkdir(parents=True)
        link.symlink_to("releases/x")  # what it names need not be there
        os.utime(link, (since, since), follow_symlinks=False)

    def flag(self, path: str) -> None:
        (self.root / path).parent.mkdir(parents=True, exist_ok=True)
        (self.root / path).touch()

    def run(self) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-IS", PROGRAM, self.root, self.target],
            capture_output=True,
            text=True,
            check=False,
            umask=0o077,
        )

    def samples(self) -> Samples:
        """(metric, label values…) → value, once every line was found to be well formed."""
        done = self.run()
        assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
        return parsed(self.target.read_text())


def parsed(text: str) -> Samples:
    """Prometheus' text format, strictly; a metric's lines must follow its HELP and TYPE."""
    assert text.endswith("\n")
    found: Samples = {}
    metric, seen = "", set()
    for line in text.splitlines():
        if line.startswith("# HELP "):
            metric = line.split()[2]
            assert metric not in seen, "the exporter refuses a second one"
            seen.add(metric)
        elif line.startswith("#"):
            assert line == f"# TYPE {metric} gauge"
        else:
            match = SAMPLE.fullmatch(line)
            assert match and match[1] == metric, line
            values = re.findall(r'="((?:[^"\\]|\\.)*)"', match[2] or "")
            key = (metric, *(re.sub(r"\\(.)", _unescape, value) for value in values))
            assert key not in found, line
            found[key] = float(match[3])
    return found


def _unescape(match: re.Match[str]) -> str:
    return "\n" if match[1] == "n" else match[1]


@pytest.fixture
def told(tmp_path: Path) -> Told:
    return Told(tmp_path)


def state(**live: str) -> dict[str, Any]:
    return {
        "live": {name: {"release": release, "previous": None} for name, release in live.items()}
    }


def lease(run: str, seconds: float) -> dict[str, Any]:
    return {"run": run, "token": 3, "holder": "ada@laptop", "expires_at": time.time() + seconds}


def journal(*entries: tuple[float, str]) -> str:
    return "".join(json.dumps({"at": at, "run": run, "verb": "x"}) + "\n" for at, run in entries)


def test_a_host_without_apps_tells_of_itself(told: Told) -> None:
    assert told.samples() == {("backline_drained",): 0, ("node_reboot_required",): 0}


def test_a_drained_host_and_one_that_waits_for_a_reboot_say_so(told: Told) -> None:
    told.flag("run/backline/drain")
    assert told.samples() == {("backline_drained",): 1, ("node_reboot_required",): 0}
    told.flag("run/reboot-required")
    assert told.samples() == {("backline_drained",): 1, ("node_reboot_required",): 1}


def test_an_app_before_its_first_release_is_there_and_runs_nothing(told: Told) -> None:
    told.app("jukebox")
    found = told.samples()
    assert found["backline_state_readable", "jukebox"] == 1
    assert found["backline_lease_held", "jukebox"] == 0
    assert not any(name.startswith("backline_release") for name, *_ in found)


def test_every_process_has_its_release_and_the_app_its_moment(told: Told) -> None:
    told.app("jukebox", state=state(web=NEW, plays=OLD))
    told.live("jukebox", SINCE)
    told.app("radio", state=state(web=OLD))
    found = told.samples()
    assert {key for key in found if key[0] == "backline_release_info"} == {
        ("backline_release_info", "jukebox", "plays", OLD),
        ("backline_release_info", "jukebox", "web", NEW),
        ("backline_release_info", "radio", "web", OLD),
    }
    assert found["backline_release_info", "jukebox", "web", NEW] == 1
    assert found["backline_release_live_since_seconds", "jukebox"] == SINCE
    assert ("backline_release_live_since_seconds", "radio") not in found
    lines = told.target.read_text().splitlines()
    # The alerts and dashboards ask by these names.
    assert f'backline_release_info{{app="jukebox",process="web",release="{NEW}"}} 1' in lines


def test_a_lease_is_told_with_the_moment_its_run_began(told: Told) -> None:
    entries = [(20.5, "ours"), (25.0, "other"), (30.0, "ours")]
    told.app("jukebox", lease=lease("ours", 60), journal=journal(*entries))
    found = told.samples()
    assert found["backline_lease_held", "jukebox"] == 1
    assert found["backline_lease_since_seconds", "jukebox"] == 20.5


def test_a_lease_that_ran_out_is_not_held(told: Told) -> None:
    told.app("jukebox", lease=lease("ours", -1), journal=journal((20.5, "ours")))
    found = told.samples()
    assert found["backline_lease_held", "jukebox"] == 0
    assert ("backline_lease_since_seconds", "jukebox") not in found


def test_a_lease_of_which_the_journal_knows_nothing_has_no_beginning(told: Told) -> None:
    told.app("jukebox", lease=lease("ours", 60), journal=journal((10.0, "other")))
    found = told.samples()
    assert found["backline_lease_held", "jukebox"] == 1
    assert ("backline_lease_since_seconds", "jukebox") not in found


def test_of_a_long_journal_only_the_end_is_read(told: Told) -> None:
    padding = journal(*[(1.0, "x" * 1000)] * 300)
    text = journal((9.0, "other"), (10.0, "ours")) + padding + journal((20.0, "ours"))
    told.app("jukebox", lease=lease("ours", 60), journal=text)
    assert told.samples()["backline_lease_since_seconds", "jukebox"] == 20.0


@pytest.mark.parametrize("line", ['{"at": 15.0, "run": "ou', "", "15", '"ours"', "[]"])
def test_a_damaged_line_of_the_journal_is_passed_over(told: Told, line: str) -> None:
    text = f"{line}\n" + journal((20.0, "ours"))
    told.app("jukebox", lease=lease("ours", 60), journal=text, state=state(web=NEW))
    found = told.samples()
    assert found["backline_state_readable", "jukebox"] == 1
    assert found["backline_lease_since_seconds", "jukebox"] == 20.0


@pytest.mark.parametrize(
    "damaged",
    [
        {"state": ""},
        {"state": '{"live": {"web": '},
        {"state": []},
        {"state": {"live": None}},
        {"state": {"live": {"web": None}}},
        {"state": {"live": {"web": {"previous": OLD}}}},
        {"lease": ""},
        {"lease": {"run": "ours"}},
        {"lease": {"run": "ours", "expires_at": "soon"}},
        {"lease": {"run": "ours", "expires_at": 2**40}},  # and no journal
    ],
    ids=str,
)
def test_damage_is_told_of_and_hides_no_other_app(told: Told, damaged: dict[str, object]) -> None:
    told.app("jukebox", **{"state": state(web=NEW), **damaged})
    told.app("radio", state=state(web=OLD))
    found = told.samples()
    assert {key: value for key, value in found.items() if "jukebox" in key} == {
        ("backline_state_readable", "jukebox"): 0
    }
    assert found["backline_state_readable", "radio"] == 1
    assert found["backline_release_info", "radio", "web", OLD] == 1


@pytest.mark.parametrize("name", ["state.json", "lease.json"])
def test_a_file_that_cannot_be_read_is_not_taken_for_none(told: Told, name: str) -> None:
    # A folder, because root reads whatever its mode is.
    (told.app("jukebox") / name).mkdir()
    found = told.samples()
    assert found["backline_state_readable", "jukebox"] == 0
    assert ("backline_lease_held", "jukebox") not in found


def test_bytes_that_are_no_text_are_damage_too(told: Told) -> None:
    (told.app("jukebox") / "state.json").write_bytes(b'{"live": {"\xff": 1}}')
    assert told.samples()["backline_state_readable", "jukebox"] == 0


@pytest.mark.parametrize("name", ['a"b', "a\\b", "a\nb", "a\\n", 'a"} 1\nforged{x="', "é"])
def test_whatever_a_label_holds_it_stays_a_label(told: Told, name: str) -> None:
    told.app("jukebox", state=state(**{name: NEW}))
    assert told.samples()["backline_release_info", "jukebox", name, NEW] == 1


def test_a_name_that_cannot_be_written_does_not_silence_the_host(told: Told) -> None:
    told.app("jukebox", state=state(web="\ud800"))
    told.app("radio", state=state(web=OLD))
    assert told.samples()["backline_release_info", "radio", "web", OLD] == 1


def test_the_file_is_replaced_whole_and_the_exporter_may_read_it(told: Told) -> None:
    told.target.write_text("old\n")
    with told.target.open() as reader:
        told.samples()
        assert reader.read() == "old\n", "somebody who was reading got half of each"
    assert told.target.stat().st_mode & 0o777 == 0o644
    assert [path.name for path in told.target.parent.iterdir()] == ["backline.prom"]


def test_what_a_killed_run_left_is_not_in_the_way_and_not_read(told: Told) -> None:
    left = told.target.with_name("backline.prom.partial")
    left.write_text("backline_drained 1\n" * 1000)
    assert told.samples()[("backline_drained",)] == 0
    assert not left.exists()


def test_a_run_that_fails_leaves_the_last_file_and_says_so(told: Told) -> None:
    told.samples()
    before = told.target.read_text()
    told.flag("run/backline/drain")
    told.target.with_name("backline.prom.partial").mkdir()
    assert told.run().returncode == 1
    assert told.target.read_text() == before
