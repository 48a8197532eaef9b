"""The walking skeleton, for real: a fleet from nothing, provisioned, deployed to, listened to.

The tests are steps of one story: each stands on those before it.
"""

from __future__ import annotations

import hashlib
import json
import re
import shlex
import time
from pathlib import Path

import pytest

from backline.lab.listener import Crowd
from backline.tasks.steps import ROOT
from tests import canaries, documented
from tests.fleet.conftest import ENV
from tests.live import CATALOGUE, Answer, Fleet, build, run

SONG = CATALOGUE[0]
MEDIA_ROOT = "/srv/media"
RECAP = re.compile(r"^(\w+)\s+: ok=(\d+)\s+changed=(\d+)\s+unreachable=(\d+)\s+failed=(\d+)", re.M)


def ansible(*more: str, fast: bool) -> Answer:
    """Runs site.yml."""
    words = ("ansible-playbook", "-i", f"inventory/{ENV}", "playbooks/site.yml", *more)
    return run(*words, fast=fast, timeout=1800)


def recap(answer: Answer) -> dict[str, int]:
    """How many changes Ansible reports per host."""
    found = {host: int(changed) for host, _, changed, _, _ in RECAP.findall(answer.out)}
    assert len(found) == 5, answer.out[-2000:]
    return found


def changes(answer: Answer) -> list[str]:
    """What Ansible changed: `task: changed: [host] …` for each."""
    found, task = [], ""
    for line in answer.out.splitlines():
        if line.startswith("TASK ["):
            task = line.strip("* ")
        elif line.startswith("changed: "):
            found.append(f"{task}: {line}")
    assert bool(found) == any(recap(answer).values()), "the recap and the lines disagree"
    return found


@pytest.fixture(scope="module")
def releases() -> dict[str, str]:
    return {}


def test_the_hosts_are_real(fleet: Fleet) -> None:
    rows = run("inv", "lab.status", "--env", ENV, "--json").lines
    assert [row["state"] for row in rows] == ["running"] * 5
    assert fleet.on("stream1", "cat /proc/1/comm").out.strip() == "systemd"


def test_making_it_again_is_harmless(fleet: Fleet) -> None:
    before = fleet.on("db1", "cat /proc/sys/kernel/random/boot_id; uptime -s").out
    run("inv", "lab.up", "--env", ENV)
    assert fleet.on("db1", "cat /proc/sys/kernel/random/boot_id; uptime -s").out == before


def test_site_builds_the_fleet_with_plain_ansible_and_shows_no_secret(fleet: Fleet) -> None:
    """Not in its output at -vvv, not in a command line, a journal, a log or a temporary file."""
    looked_for = canaries.secrets(fleet)
    assert len(looked_for) >= 6, f"only {sorted(looked_for)}"
    began = time.time()
    watch = canaries.ProcessWatch(looked_for).start()
    try:
        answer = ansible("-vvv", "--diff", fast=False)
    finally:
        watch.stop()
    assert all(recap(answer).values())
    found = canaries.hits("Ansible's output", (answer.out + answer.err).encode(), looked_for)
    assert found + canaries.left_behind(fleet, looked_for, began) == []
    assert watch.found == set() and watch.looks > 100


def test_site_a_second_time_changes_nothing(fleet: Fleet) -> None:
    assert changes(ansible(fast=True)) == []


def test_check_mode_on_a_built_fleet_reports_nothing(fleet: Fleet) -> None:
    assert changes(ansible("--check", fast=True)) == []


def test_no_unit_has_failed(fleet: Fleet) -> None:
    for host in ("edge1", "stream1", "stream2", "db1", "worker1"):
        assert fleet.on(host, "systemctl --failed --no-legend --plain").out == ""


def test_a_proxy_s_checks_are_no_line_in_a_database_s_journal(fleet: Fleet) -> None:
    """Sixteen seconds: PgBouncer tells of a client that never signs in after fifteen."""
    began = float(fleet.on("db1", "date +%s.%N").out)
    time.sleep(16)
    stats = fleet.on("stream1", "curl --silent 'http://127.0.0.1:8405/stats;csv'").out
    assert re.search(r"^primary,db1,.*,UP,.*,L7OK,", stats, re.M), stats
    journal = fleet.on("db1", f"journalctl --unit pgbouncer --output cat --since @{began}").out
    assert "handshake" not in journal and "login_timeout" not in journal, journal


def test_deploy(fleet: Fleet, releases: dict[str, str]) -> None:
    releases["first"] = build("1.0.0")
    run("fab", "deploy", "--env", ENV, "--release", releases["first"], "--yes", "3")
    status, body, _ = fleet.listener().get("/version")
    assert status == 200
    answer = json.loads(body)
    assert (answer["release"], answer["version"]) == (releases["first"], "1.0.0")


def test_a_song_arrives_whole_and_in_ranges(fleet: Fleet, releases: dict[str, str]) -> None:
    listener = fleet.listener()
    path = f"/tracks/{SONG['slug']}/stream"
    status, whole, kind = listener.get(path)
    assert (status, kind) == (200, SONG["mime"])
    assert hashlib.sha256(whole).hexdigest() == SONG["sha256"]

    parts = []
    step = 100_000
    for start in range(0, SONG["size"], step):
        status, part, _ = listener.get(path, {"Range": f"bytes={start}-{start + step - 1}"})
        assert status == 206
        parts.append(part)
    assert hashlib.sha256(b"".join(parts)).hexdigest() == SONG["sha256"]

    assert listener.get(path, {"Range": "bytes=-500"})[:2] == (206, whole[-500:])
    assert listener.get(path, {"Range": f"bytes={SONG['size']}-"})[0] == 416


def test_nobody_hears_a_song_without_signing_in(fleet: Fleet, releases: dict[str, str]) -> None:
    from backline.lab.listener import Listener

    stranger = Listener(fleet.base, fleet.ca)
    status, body, kind = stranger.get(f"/tracks/{SONG['slug']}/stream")
    assert kind != SONG["mime"] and len(body) < SONG["size"]
    assert stranger.get(f"/_media/{SONG['file']}")[0] == 404


def test_each_play_is_recorded_by_a_worker(fleet: Fleet, releases: dict[str, str]) -> None:
    listener = fleet.listener()
    listener.get(f"/tracks/{SONG['slug']}/stream")
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        page = listener.get("/plays/")[1].decode()
        if SONG["title"] in page:
            return
        time.sleep(0.5)
    pytest.fail(f"no play of {SONG['title']} was recorded")


def test_the_page_on_music_says_how_it_is_done(fleet: Fleet, tmp_path: Path) -> None:
    """Its commands in its order, on a song of our own; a file that is gone is noticed and comes back."""
    (tmp_path / "song.wav").write_bytes(b"RIFF" + bytes(100_000))
    served = f"test -s {MEDIA_ROOT}/song.wav"
    look, publish, rehearse, plain, *purge, verify, journal, remove, again, hls = [
        command.replace("inventory/lab", f"inventory/{ENV}")
        .replace("--env lab", f"--env {ENV}")
        .replace("/srv/library", str(tmp_path))
        for command in documented.commands("docs/how-to/music.md")
    ]
    host = fleet.hosts("media")[0]
    run(*shlex.split(look))
    fleet.on(host, served, expect=1)
    run(*shlex.split(publish))
    fleet.on(host, served)
    for command in (rehearse, plain, *purge):
        run(*shlex.split(command), fast=True)
    run(*shlex.split(verify))
    assert "Finished" in run(*shlex.split(journal)).out
    run(*shlex.split(remove))
    assert run(*shlex.split(verify), expect=None).code != 0
    assert "song.wav" in run(*shlex.split(journal)).out
    run(*shlex.split(again), fast=True)
    fleet.on(host, served)
    run(*shlex.split(verify))
    run(*shlex.split(hls))


def test_a_tampered_release_is_refused_and_the_running_one_stays(
    fleet: Fleet, releases: dict[str, str]
) -> None:
    """First by the operator's own check; without it by every host, which is what counts."""
    tampered = build("6.6.6")
    archive = ROOT / "dist" / f"{tampered}.tar.zst"
    content = bytearray(archive.read_bytes())
    content[len(content) // 2] ^= 1
    archive.write_bytes(content)
    words = ("fab", "deploy", "--env", ENV, "--release", tampered)
    assert "is not the archive that was signed" in run(*words, "--yes", "3", expect=6).err
    for host in ("stream1", "stream2", "worker1"):
        refusal = run(*words, "--on", host, "--yes", "1", "--skip-local-check", expect=6).err
        assert f"{host}: {tampered}.tar.zst is not the one that was signed" in refusal
        assert tampered not in fleet.on(host, "ls -a /srv/jukebox/releases").out
    status, body, _ = fleet.listener().get("/version")
    assert json.loads(body)["release"] == releases["first"]


def test_a_rolling_deploy_fails_no_request(fleet: Fleet, releases: dict[str, str]) -> None:
    releases["second"] = build("1.1.0")
    listener = fleet.listener()
    crowd = Crowd(listener, f"/tracks/{SONG['slug']}/stream").start()
    time.sleep(2)
    run("fab", "deploy", "--env", ENV, "--release", releases["second"], "--yes", "3")
    time.sleep(1)
    tally = crowd.stop()
    assert not tally.failures, tally.failures
    assert set(tally.releases) == {releases["first"], releases["second"]}
    assert tally.requests > 100


def test_status_tells_what_runs_where(fleet: Fleet, releases: dict[str, str]) -> None:
    rows = run("fab", "status", "--env", ENV, "--json").lines
    running = {row["host"]: row["current"] for row in rows if row.get("current")}
    assert running == dict.fromkeys(("stream1", "stream2", "worker1"), releases["second"])


def test_rollback_brings_the_last_good_release_back(fleet: Fleet, releases: dict[str, str]) -> None:
    listener = fleet.listener()
    crowd = Crowd(listener, f"/tracks/{SONG['slug']}/stream").start()
    run("fab", "rollback", "--env", ENV, "--yes", "3")
    tally = crowd.stop()
    assert not tally.failures, tally.failures
    assert json.loads(listener.get("/version")[1])["release"] == releases["first"]


def test_a_host_that_is_down_is_named_and_nothing_changes(
    fleet: Fleet, releases: dict[str, str]
) -> None:
    fleet.on("stream2", "sudo systemctl stop ssh.socket ssh.service", expect=None)
    try:
        answer = run(
            "fab",
            "deploy",
            "--env",
            ENV,
            "--release",
            releases["second"],
            "--yes",
            "3",
            expect=None,
        )
        assert answer.code == 1
        assert "stream2" in answer.err
        assert json.loads(fleet.listener().get("/version")[1])["release"] == releases["first"]
    finally:
        from backline.lab.machine import podman

        podman("exec", f"backline-{ENV}-stream2", "systemctl", "start", "ssh.service")


def test_a_wrong_host_key_is_refused(fleet: Fleet, releases: dict[str, str]) -> None:
    pinned = ROOT / "inventory" / ENV / "known_hosts"
    good = pinned.read_text()
    lines = good.splitlines()
    lines[0] = " ".join([*lines[0].split()[:2], lines[1].split()[2]])
    pinned.write_text("\n".join(lines) + "\n")
    try:
        answer = run("fab", "status", "--env", ENV, expect=None)
        assert answer.code != 0
        assert "edge1" in answer.out + answer.err
        assert "host key" in answer.out + answer.err
    finally:
        pinned.write_text(good)
