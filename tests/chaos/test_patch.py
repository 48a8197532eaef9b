"""Upgrades that nobody hears: reloads of the edge and a new nginx, while songs are being sent."""

from __future__ import annotations

import json
import random
import tempfile
import time
from pathlib import Path

import pytest

from backline.lab.machine import podman
from tests.chaos.downloads import Downloads
from tests.live import Fleet

RELOADS = 50
SONG_BYTES = 96 * 1024 * 1024
LONG = 80 * 1024 * 1024
SLOW = 300_000  # bytes a second: LONG takes more than four minutes
COUNT = 6
LOADED = "Loading success"


@pytest.fixture(scope="module")
def song(fleet: Fleet) -> tuple[str, bytes]:
    """A song so large that hearing it takes minutes: (its path, its bytes)."""
    content = random.Random(7).randbytes(SONG_BYTES)
    # Audio is immutable: the same name with another time of change would not fit cached slices.
    name = f"noise-{int(time.time())}"
    entry = {
        "slug": name,
        "title": "An Hour of Noise",
        "artist": "The Patchbays",
        "album": "Chaos",
        "seconds": 3600,
        "file": f"{name}.wav",
        "sha256": "0" * 64,
        "size": SONG_BYTES,
        "mime": "audio/wav",
    }
    with tempfile.TemporaryDirectory() as place:
        wav, catalogue = Path(place) / "song.wav", Path(place) / "catalogue.json"
        wav.write_bytes(content)
        catalogue.write_text(json.dumps([entry]))
        for origin in fleet.hosts("media"):
            podman("cp", str(wav), f"{fleet.container(origin)}:/srv/media/{entry['file']}")
            fleet.on(origin, f"sudo chmod 0644 /srv/media/{entry['file']}")
        host = fleet.hosts("streaming")[0]
        podman("cp", str(catalogue), f"{fleet.container(host)}:/var/tmp/catalogue.json")
    fleet.on(
        host,
        "sudo chmod 0644 /var/tmp/catalogue.json && sudo systemd-run --quiet --wait --pipe"
        " --property=EnvironmentFile=/etc/jukebox/jukebox.env --property=User=jukebox"
        " --working-directory=/srv/jukebox/current/app /srv/jukebox/current/venv/bin/python"
        " manage.py loadcatalogue /var/tmp/catalogue.json",
    )
    return f"/tracks/{entry['slug']}/stream", content


def reload(fleet: Fleet) -> int:
    """Reloads HAProxy RELOADS times on every edge; returns how many of them it took."""
    took = 0
    for edge in fleet.hosts("edge"):
        since = fleet.on(edge, "date +%s").out.strip()
        loop = f"for n in $(seq {RELOADS}); do sudo systemctl reload haproxy && sleep 1; done"
        fleet.on(edge, loop)
        log = f"sudo journalctl --unit haproxy --since @{since} --output cat"
        took += fleet.on(edge, log).out.count(LOADED)
    return took


def test_reloads_and_an_nginx_reinstall_cut_nobody_off(
    fleet: Fleet, song: tuple[str, bytes]
) -> None:
    path, content = song
    listener = fleet.listener()
    downloads = Downloads(listener, path, content, count=COUNT, length=LONG, rate=SLOW).start()
    crowd = fleet.crowd(listener, rate=40.0)
    time.sleep(3)
    started = time.monotonic()
    reloads = reload(fleet)
    between = downloads.running()
    patched = fleet.playbook("patch", "-e", json.dumps({"patch_reinstall": ["nginx"]}))
    running = downloads.running()
    tally, whole = crowd.stop(), downloads.finish()
    print(
        f"\n{reloads} reloads and the patch in {time.monotonic() - started:.0f} s:"
        f" {tally.requests} requests, {tally.failed} failed, slowest {tally.slowest_ms:.0f} ms;"
        f" {len(whole)} downloads of {min(d.seconds for d in whole):.0f} s and more,"
        f" {sum(d.got for d in whole) / 1e6:.0f} MB, {sum(not d.whole for d in whole)} cut or wrong"
    )
    assert reloads >= RELOADS * len(fleet.hosts("edge"))
    assert (between, running) == (COUNT, COUNT), "downloads ended before the work did"
    assert not tally.failures, tally.failures
    assert not [download for download in whole if not download.whole]
    for host in fleet.hosts("streaming"):
        assert f"{host} " in patched.out and "nginx installed again" in patched.out
        assert _old_programs(fleet, host) == "", "an old nginx still takes requests"


def _old_programs(fleet: Fleet, host: str) -> str:
    """The nginx that systemd knows, if it runs from a file that is gone."""
    look = "sudo readlink /proc/$(systemctl show --property MainPID --value nginx)/exe"
    return fleet.on(host, f"{look} | grep deleted || true").out.strip()


def test_a_host_that_waits_for_a_reboot_boots_when_its_downloads_are_over(
    fleet: Fleet, song: tuple[str, bytes]
) -> None:
    """Half of the listeners hear through the host; it waits for them, boots, and comes back."""
    path, content = song
    host = fleet.hosts("streaming")[-1]
    fleet.on(host, "sudo touch /run/reboot-required")
    told = fleet.playbook("patch", "-e", f"patch_hosts={host}", "--check").out
    assert "rebooted" in told and "by lists of apt that are" in told, told[-3000:]
    listener = fleet.listener()
    length = 40 * SLOW
    downloads = Downloads(listener, path, content, count=COUNT, length=length, rate=SLOW).start()
    time.sleep(1)
    crowd = fleet.crowd(listener, rate=20.0)
    booted = fleet.on(host, "cut -d ' ' -f 22 /proc/1/stat").out
    done = fleet.playbook("patch", "-e", f"patch_hosts={host}")
    tally, whole = crowd.stop(), downloads.finish()
    print(
        f"\nreboot of {host}: {tally.requests} requests, {tally.failed} failed;"
        f" {len(whole)} downloads, {sum(not d.whole for d in whole)} cut or wrong"
    )
    assert "rebooted" in done.out, done.out[-3000:]
    assert fleet.on(host, "cut -d ' ' -f 22 /proc/1/stat").out != booted
    assert fleet.on(host, "test ! -e /run/backline/drain; echo $?").out.strip() == "0"
    assert not tally.failures, tally.failures
    assert not [download for download in whole if not download.whole]


def test_the_only_database_is_refused_and_of_three_each_takes_its_turn(fleet: Fleet) -> None:
    """PostgreSQL and RabbitMQ again on every host: standbys, a switchover, who led; nobody notices."""
    for group, package in (("broker", "rabbitmq-server"), ("database", "postgresql-15")):
        hosts = fleet.hosts(group)
        extra = {"patch_reinstall": [package], "patch_hosts": ",".join(hosts)}
        if len(hosts) == 1:
            answer = fleet.playbook("patch", "-e", json.dumps(extra), expect=None)
            assert answer.code != 0 and "-e patch_outage=true" in answer.out, answer.out[-3000:]
            continue
        before = _leader(fleet, hosts[0]) if group == "database" else ""
        crowd = fleet.crowd(fleet.listener(), rate=20.0)
        try:
            fleet.playbook("patch", "-e", json.dumps(extra))
        finally:
            tally = crowd.stop()
        assert not tally.failures, (group, tally.failures)
        if group == "database":
            assert _leader(fleet, hosts[0]) != before, "who led was restarted under its clients"


def _leader(fleet: Fleet, host: str) -> str:
    """Who leads the database, as hostctl tells."""
    said = fleet.on(host, 'echo \'{"action": "status"}\' | sudo hostctl database').out
    return str(json.loads(said)["leader"])


def test_a_host_that_comes_back_ill_stays_out_and_the_next_is_not_touched(fleet: Fleet) -> None:
    """A unit that fails on the first streaming host: nobody hears of it, and the second is spared."""
    first, second = fleet.hosts("streaming")[:2]
    unit = "[Service]\\nType=oneshot\\nExecStart=/bin/false\\n"
    fleet.on(first, f"printf '{unit}' | sudo tee /run/systemd/system/ill.service >/dev/null")
    fleet.on(first, "sudo systemctl daemon-reload; sudo systemctl start ill.service", expect=None)
    crowd = fleet.crowd(fleet.listener(), rate=20.0)
    extra = ("-e", json.dumps({"patch_reinstall": ["nginx"], "patch_hosts": f"{first},{second}"}))
    try:
        answer = fleet.playbook("patch", *extra, expect=None)
        assert answer.code != 0
        assert "It is left as it is now" in answer.out and "ill.service" in answer.out
        assert fleet.on(first, "cat /run/backline/drain").out.startswith("patch-")
        assert f"included: {second}" not in answer.out
    finally:
        fleet.on(first, "sudo rm /run/systemd/system/ill.service; sudo systemctl daemon-reload")
        fleet.on(first, "sudo systemctl reset-failed ill.service", expect=None)
        again = fleet.playbook("patch", "-e", f"patch_hosts={first}")
        tally = crowd.stop()
    assert fleet.on(first, "test ! -e /run/backline/drain; echo $?").out.strip() == "0", again.out
    assert not tally.failures, tally.failures
