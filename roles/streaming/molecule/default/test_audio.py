"""What a player relies on: the bytes it asked for, and only through the application."""

from __future__ import annotations

import pytest
from audio import FILES, SONG

MIB = 1 << 20
PLAY = "/play/song.wav"


def test_the_whole_file(get):
    answer = get(PLAY)
    assert answer.status == 200 and answer.holds(SONG)
    assert answer.headers["content-length"] == str(len(SONG))
    assert answer.headers["accept-ranges"] == "bytes"


@pytest.mark.parametrize(
    ("asked", "first", "last"),
    [
        ("0-0", 0, 0),
        ("0-1", 0, 1),
        ("1000-1999", 1000, 1999),
        (f"{MIB - 1}-{MIB}", MIB - 1, MIB),
        (f"{MIB}-{2 * MIB - 1}", MIB, 2 * MIB - 1),
        ("500000-3200000", 500_000, 3_200_000),
        ("3000000-", 3_000_000, len(SONG) - 1),
        ("3000000-99999999", 3_000_000, len(SONG) - 1),
        ("-1", len(SONG) - 1, len(SONG) - 1),
        ("-2000000", len(SONG) - 2_000_000, len(SONG) - 1),
        ("-99999999", 0, len(SONG) - 1),
    ],
)
def test_a_range_is_exact(get, asked, first, last):
    for _ in range(2):  # the second time from the cache
        answer = get(PLAY, "-r", asked)
        assert answer.status == 206
        assert answer.headers["content-range"] == f"bytes {first}-{last}/{len(SONG)}"
        assert answer.headers["content-length"] == str(last - first + 1)
        assert answer.holds(SONG[first : last + 1])


def test_a_range_of_a_file_that_nobody_has_asked_for(get):
    content = FILES["never-asked-before.wav"]
    answer = get("/play/never-asked-before.wav", "-r", "-700000")
    assert answer.status == 206 and answer.holds(content[-700_000:])


def test_a_range_beyond_the_end(get):
    answer = get(PLAY, "-r", "99999999-")
    assert answer.status == 416
    assert answer.headers["content-range"] == f"bytes */{len(SONG)}"


def test_several_ranges_at_once_are_answered_with_the_whole(get):
    answer = get(PLAY, "-r", "0-9,100-109")
    assert answer.status == 200 and answer.holds(SONG)


def test_if_range(get):
    headers = get(PLAY).headers
    for same in (headers["etag"], headers["last-modified"]):
        answer = get(PLAY, "-r", "10-19", "-H", f"If-Range: {same}")
        assert answer.status == 206 and answer.holds(SONG[10:20])
    for other in ('"another"', "Thu, 01 Jan 2015 00:00:00 GMT"):
        answer = get(PLAY, "-r", "10-19", "-H", f"If-Range: {other}")
        assert answer.status == 200 and answer.holds(SONG)


def test_what_the_player_has_is_not_sent_again(get):
    etag = get(PLAY, "-r", "0-0").headers["etag"]
    assert get(PLAY, "-H", f"If-None-Match: {etag}").status == 304


def test_head(get):
    answer = get(PLAY, "--head")
    assert answer.status == 200 and answer.headers["content-length"] == str(len(SONG))


def test_the_application_says_what_it_is(get):
    headers = get(PLAY, "-r", "0-9").headers
    assert headers["content-type"] == "audio/x-from-the-app"
    assert headers["content-disposition"] == 'inline; filename="a song.wav"'
    assert headers["cache-control"] == "private"
    assert headers["x-content-type-options"] == "nosniff"
    assert "x-accel-redirect" not in headers and "server" in headers
    assert headers["server"] == "nginx"


def test_names_with_spaces_and_accents(get):
    answer = get("/play/album%20one/%C3%BCnder.mp3")
    assert answer.status == 200 and answer.holds(FILES["album one/ünder.mp3"])


def test_nobody_gets_around_the_application(get, address):
    for path in ("/_media/song.wav", "/_media/", "/%5fmedia/song.wav", "//_media/song.wav"):
        for to in ("127.0.0.1:8080", f"{address}:8080"):
            assert get(path, "--path-as-is", to=to).status == 404


def test_a_song_that_is_not_there(get):
    assert get("/play/missing.wav").status == 404


def test_cached_audio_outlives_its_origin(host, get):
    assert get(PLAY).status == 200
    host.run("mv /srv/media/song.wav /srv/media/away")
    try:
        assert get(PLAY).holds(SONG)
    finally:
        host.run("mv /srv/media/away /srv/media/song.wav")


def test_the_origin(host, get, address):
    origin = f"{address}:8081"
    answer = get("/song.wav", "-r", "5-9", to=origin)
    assert answer.status == 206 and answer.holds(SONG[5:10])
    assert answer.headers["content-type"] == "audio/wav"
    assert "immutable" in answer.headers["cache-control"] and answer.headers["etag"]
    for path in ("/.hidden", "/", "/album%20one/", "/album%20one", "/nothing.wav"):
        assert get(path, to=origin).status == 404, path
    assert get("/song.wav", "-X", "DELETE", to=origin).status in (403, 405)
    assert get("/_health", to=origin).status == 200


def test_what_was_published(host):
    found = host.run("cd /srv/media && find . -type f | sort").stdout.split("\n")[:-1]
    assert found == ["./album one/ünder.mp3", "./never-asked-before.wav", "./song.wav"]
    song = host.file("/srv/media/song.wav")
    assert song.user == "root" and song.mode == 0o644
    assert host.run("stat -c %Y /srv/media/song.wav").stdout.strip() == "1767225600"
