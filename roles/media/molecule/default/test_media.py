"""What a listener and an SRE rely on: whole songs, playable packages, damage that is noticed."""

from __future__ import annotations

import re

ORIGIN = "http://127.0.0.1:8081"
HLS = "/srv/media-hls"


def body(host, path: str) -> str:
    done = host.run(f"curl -sSf '{ORIGIN}{path}'")
    assert done.rc == 0, done.stderr
    return done.stdout


def test_the_host_has_what_the_source_has_and_no_more(host):
    found = host.run("cd /srv/media && find . -type f | sort").stdout.split()
    assert found == ["./.manifest.sha256", "./broken.mp3", "./first.wav", "./third.wav"]


def test_the_manifest_is_not_served(host):
    assert host.run(f"curl -sSf {ORIGIN}/.manifest.sha256").rc != 0


def test_damage_is_noticed_and_named(host):
    assert host.run("systemctl start backline-media-verify.service").rc == 0
    host.run(
        "cd /srv/media && cp -a third.wav /root/"
        " && printf x | dd of=third.wav seek=999 bs=1 conv=notrunc"
    )
    assert host.run("systemctl start backline-media-verify.service").rc != 0
    journal = host.run("journalctl --unit backline-media-verify --output cat").stdout
    assert "third.wav: FAILED" in journal
    host.run("mv /root/third.wav /srv/media/ && systemctl start backline-media-verify.service")
    assert host.run("systemctl is-failed backline-media-verify").rc != 0


def test_a_package_can_be_played_from_end_to_end(host):
    """ffmpeg itself fetches playlists and segments over HTTP, and hears all seconds."""
    done = host.run(
        "ffprobe -v error -show_entries format=duration -of csv=p=0 %s",
        f"{ORIGIN}/hls/third.wav/index.m3u8",
    )
    assert done.rc == 0, done.stderr
    assert abs(float(done.stdout) - 3) < 0.2
    played = host.run(
        "ffmpeg -v error -xerror -i %s -f null -", f"{ORIGIN}/hls/third.wav/index.m3u8"
    )
    assert (played.rc, played.stderr) == (0, "")


def test_an_index_names_every_bitrate(host):
    text = body(host, "/hls/third.wav/index.m3u8")
    assert re.findall(r"^[0-9a-f]{16}/(\d+k)\.m3u8$", text, re.M) == ["64k", "128k"]


def test_players_know_what_they_may_keep(host):
    def header(path: str, name: str) -> str:
        return host.run(f"curl -sSf -o /dev/null -w '%header{{{name}}}' '{ORIGIN}{path}'").stdout

    index = "/hls/third.wav/index.m3u8"
    version = re.search(r"^[0-9a-f]{16}", body(host, index), re.M)[0]
    assert header(index, "cache-control") == "public, max-age=60"
    assert header(index, "content-type") == "application/vnd.apple.mpegurl"
    segment = f"/hls/third.wav/{version}/64k-00000.m4s"
    assert "immutable" in header(segment, "cache-control")
    assert header(segment, "content-type") == "audio/mp4"
    assert host.run(f"curl -sSf {ORIGIN}/hls/.state.json").rc != 0


def test_who_plays_a_version_that_was_replaced_plays_on(host):
    before = host.file("/root/index-before.m3u8").content_string
    old = re.search(r"^([0-9a-f]{16})/64k", before, re.M)[1]
    now = body(host, "/hls/first.wav/index.m3u8")
    assert old not in now
    assert "#EXT-X-ENDLIST" in body(host, f"/hls/first.wav/{old}/64k.m3u8")


def test_a_song_that_is_gone_is_not_offered(host):
    assert host.run(f"curl -sSf '{ORIGIN}/hls/album%20one/second%20%C3%B6.wav/index.m3u8'").rc != 0


def test_a_broken_song_is_reported_and_hurts_no_other(host):
    journal = host.run(
        "journalctl --unit backline-media-hls --priority warning --output cat"
    ).stdout
    assert "broken.mp3 is broken: " in journal
    assert not host.file(f"{HLS}/broken.mp3/index.m3u8").exists
    assert host.run("systemctl is-failed backline-media-hls").rc != 0


def test_what_is_packaged_is_not_packaged_again(host):
    look = f"find {HLS} -type f -name '*.m4s' -printf '%p %T@ %i\\n' | sort"
    before = host.run(look).stdout
    assert before and host.run("systemctl start backline-media-hls").rc == 0
    assert host.run(look).stdout == before


def test_nothing_half_made_is_left(host):
    known = (".state.json", ".lock", ".manifest.sha256")
    found = host.run(f"find {HLS} /srv/media -name '.*' -printf '%f\n'").stdout.split()
    assert set(found) <= set(known), found


def test_the_sandboxes_are_tight(host):
    for unit in ("backline-media-hls", "backline-media-verify"):
        words = host.run(f"systemd-analyze security --no-pager {unit}.service | tail -1").stdout
        assert float(words.split(": ")[1].split()[0]) <= 1.5, words
        assert host.service(f"{unit}.timer").is_running and host.service(f"{unit}.timer").is_enabled
