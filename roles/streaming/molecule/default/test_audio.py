"""What a player relies on: the bytes it asked for, and only through the application."""

from __future__ import annotations

import hashlib
import json
import time

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


def test_several_ranges_at_once_are_exact(get):
    etag = get(PLAY, "-r", "0-0").headers["etag"]
    for options in ([], ["-H", f"If-Range: {etag}"]):
        answer = get(PLAY, "-r", "5-9,1048570-1048579,-7", *options)
        kind, boundary = answer.headers["content-type"].split("; boundary=")
        assert (answer.status, kind) == (206, "multipart/byteranges")
        expected = b""
        for first, last in ((5, 9), (1_048_570, 1_048_579), (len(SONG) - 7, len(SONG) - 1)):
            head = f"Content-Type: audio/wav\r\nContent-Range: bytes {first}-{last}/{len(SONG)}"
            expected += f"\r\n--{boundary}\r\n{head}\r\n\r\n".encode() + SONG[first : last + 1]
        assert answer.holds(expected + f"\r\n--{boundary}--\r\n".encode())


def test_several_ranges_of_another_version_are_answered_with_the_whole(get):
    answer = get(PLAY, "-r", "0-9,100-109", "-H", 'If-Range: "another"')
    assert answer.status == 200 and answer.holds(SONG)


def test_ranges_without_number_do_not_multiply_the_answer(get):
    answer = get(PLAY, "-r", ",".join(["0-"] * 30))
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
    assert answer.headers["etag"] == get(PLAY, "-r", "0-0").headers["etag"]


def test_etag_and_time_of_change_are_the_origin_s(get, address):
    origin, heard = get("/song.wav", to=f"{address}:8081").headers, get(PLAY).headers
    for name in ("etag", "last-modified"):
        assert heard[name] == origin[name]


def asked_of_the_origin(host, name: str) -> list[dict[str, str]]:
    """The origin's log of requests for a file."""
    time.sleep(0.3)
    lines = host.check_output("zcat -f /var/log/nginx/access.log*").splitlines()
    asked = [json.loads(line) for line in lines]
    return [entry for entry in asked if (entry["site"], entry["path"]) == ("media", name)]


def test_listeners_who_start_a_song_together_cost_the_origin_one_fetch_a_slice(host):
    premiere = FILES["premiere.wav"]
    done = host.run(
        "bash -c %s",
        "cd $(mktemp -d); for n in $(seq 20); do curl -s --max-time 60 -o $n"
        " http://127.0.0.1:8080/play/premiere.wav & done; wait; sha256sum * | cut -c -64 | sort -u",
    )
    assert done.stdout.split() == [hashlib.sha256(premiere).hexdigest()]
    asked = asked_of_the_origin(host, "/premiere.wav")
    fetched = [entry["range"] for entry in asked if entry["status"] == "206"]
    assert sorted(fetched) == [
        f"bytes={first}-{first + MIB - 1}" for first in range(0, len(premiere), MIB)
    ]


def test_a_slice_that_is_still_the_same_is_not_fetched_again(host, get):
    name = "never-asked-before.wav"
    assert get(f"/play/{name}").holds(FILES[name])
    before = len(asked_of_the_origin(host, f"/{name}"))
    time.sleep(2.5)  # streaming_media_revalidate
    assert get(f"/play/{name}").holds(FILES[name])
    again = asked_of_the_origin(host, f"/{name}")[before:]
    assert {entry["status"] for entry in again} == {"304"} and len(again) == 3


def test_a_file_that_was_replaced_is_never_sent_half_old_half_new(host, get):
    """Only its beginning is cached when it changes: the download is cut, then whole again."""
    path, old = "/play/replaced.wav", FILES["replaced.wav"]
    assert get(path, "-r", "0-9").holds(old[:10])
    new = bytes(reversed(old))
    host.run(
        "cd /srv/media && python3 -c %s",
        "import pathlib as p, os; f = p.Path('replaced.wav'); n = p.Path('.new');"
        " n.write_bytes(bytes(reversed(f.read_bytes()))); os.replace(n, f)",
    )
    wanted = (hashlib.sha256(old).hexdigest(), hashlib.sha256(new).hexdigest())
    seen = []
    for _ in range(30):
        done = host.run(
            f"f=$(mktemp); curl -s -m 20 -o $f http://127.0.0.1:8080{path};"
            " echo $? $(sha256sum <$f)"
        )
        code, digest, _ = done.stdout.split()
        seen.append((int(code), digest))
        if seen[-1] == (0, wanted[1]):
            break
        time.sleep(0.7)
    assert seen[-1] == (0, wanted[1]), "the new file is not served"
    assert all(digest in wanted for code, digest in seen if code == 0), "a mix was sent as whole"


def test_versions_that_the_application_tells_apart_are_apart(host, get):
    for version in ("one", "two"):
        assert get(f"/play/song.wav?v={version}", "-r", "0-9").status == 206
    assert len([e for e in asked_of_the_origin(host, "/song.wav") if e["status"] == "206"]) >= 2


def test_an_origin_that_is_down_is_passed_over(host, get):
    assert get("/play/album%20one/%C3%BCnder.mp3?again").status == 200
    lines = host.check_output("zcat -f /var/log/nginx/access.log*").splitlines()
    tried = [json.loads(line)["upstream"] for line in lines]
    assert any(":8099, " in upstream and ":8081" in upstream for upstream in tried)


def test_while_every_origin_is_down_what_is_cached_is_served(host, get):
    assert get(PLAY).holds(SONG)
    host.run("mv /etc/nginx/backline.d/media.conf /root/ && systemctl reload nginx; sleep 2.5")
    try:
        assert get(PLAY, "-r", "-10").holds(SONG[-10:])
        assert get(PLAY).holds(SONG)
    finally:
        host.run("mv /root/media.conf /etc/nginx/backline.d/ && systemctl reload nginx; sleep 0.5")


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
    found = host.run("cd /srv/media && find . -type f -not -name '.*' | sort").stdout.split("\n")[
        :-1
    ]
    assert found == [f"./{name}" for name in sorted(FILES) if name.endswith(("wav", "mp3"))]
    song = host.file("/srv/media/song.wav")
    assert song.user == "root" and song.mode == 0o644
    assert host.run("stat -c %Y /srv/media/song.wav").stdout.strip() == "1767225600"
