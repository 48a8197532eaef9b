"""What is in the catalogue, how it gets there, and how its pages behave."""

from __future__ import annotations

import json
import subprocess
import sys
from io import StringIO
from pathlib import Path

import pytest
from django.core.management import CommandError, call_command
from django.db import IntegrityError, transaction
from django.test import Client

from music.models import Track
from tests.conftest import ROOT

SONGS = json.loads((ROOT / "catalogue.json").read_text())


def load(path: Path) -> str:
    out = StringIO()
    call_command("loadcatalogue", str(path), stdout=out)
    return out.getvalue().strip()


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "catalogue.json"


@pytest.mark.django_db
class TestLoading:
    def test_twice_changes_nothing(self) -> None:
        assert load(ROOT / "catalogue.json").endswith("4 new or changed, 0 others kept")
        before = list(Track.objects.values_list())
        assert load(ROOT / "catalogue.json").endswith("0 new or changed, 0 others kept")
        assert list(Track.objects.values_list()) == before

    def test_updates_in_place_and_keeps_what_an_old_release_plays(self, file: Path) -> None:
        load(ROOT / "catalogue.json")
        identity = Track.objects.get(slug=SONGS[0]["slug"]).pk
        file.write_text(json.dumps([SONGS[0] | {"title": "Soundcheck at Seven"}]))
        assert load(file) == "catalogue: 1 songs, 1 new or changed, 3 others kept"
        assert Track.objects.get(pk=identity).title == "Soundcheck at Seven"

    @pytest.mark.parametrize(
        ("change", "complaint"),
        [
            ({"file": "../../etc/passwd"}, "file: Enter a valid value"),
            ({"file": "folder/song.wav"}, "file: Enter a valid value"),
            ({"file": ".hidden"}, "file: Enter a valid value"),
            ({"file": "song.wav\n"}, "file: Enter a valid value"),
            ({"mime": "text/html"}, "mime: Enter a valid value"),
            ({"sha256": "abc"}, "sha256: "),
            ({"seconds": -1}, "seconds: "),
            ({"price": 1}, "missing or unknown: price"),
        ],
    )
    def test_a_bad_song_is_named_and_nothing_loaded(
        self, file: Path, change: dict[str, object], complaint: str
    ) -> None:
        file.write_text(json.dumps([SONGS[0], SONGS[1] | change]))
        with pytest.raises(CommandError) as caught:
            load(file)
        assert "song 2 (house-lights-down)" in str(caught.value)
        assert complaint in str(caught.value)
        assert str(file) in str(caught.value)
        assert not Track.objects.exists()

    @pytest.mark.parametrize(
        ("text", "complaint"),
        [("{", "not JSON: line 1"), ("{}", "must be a list"), ("[1]", "must be a list")],
    )
    def test_what_is_no_catalogue_is_refused(self, file: Path, text: str, complaint: str) -> None:
        file.write_text(text)
        with pytest.raises(CommandError, match=complaint):
            load(file)

    def test_a_song_named_twice_is_refused(self, file: Path) -> None:
        file.write_text(json.dumps([SONGS[0], SONGS[0]]))
        with pytest.raises(CommandError, match="more than once: soundcheck-at-six"):
            load(file)

    def test_a_missing_file_is_named(self, file: Path) -> None:
        with pytest.raises(CommandError, match=r"catalogue.json: No such file"):
            load(file)

    def test_the_database_itself_refuses_a_path(self) -> None:
        with pytest.raises(IntegrityError), transaction.atomic():
            Track.objects.create(**SONGS[0] | {"file": "../secret"})


@pytest.mark.django_db
class TestPages:
    def test_anybody_may_look(self, visitor: Client, track: Track) -> None:
        page = visitor.get("/").text
        for song in SONGS:
            assert song["title"] in page
        assert "data-stream" not in page, "a visitor gets a way to sign in, not a player"
        assert track.sha256 in visitor.get(f"/tracks/{track.slug}/").text

    def test_a_listener_gets_play_buttons(self, browser: Client, track: Track) -> None:
        assert f'data-stream="/tracks/{track.slug}/stream"' in browser.get("/").text

    def test_an_empty_catalogue_says_how_to_fill_it(self, visitor: Client) -> None:
        assert "loadcatalogue" in visitor.get("/").text

    def test_the_release_is_at_the_foot(self, visitor: Client) -> None:
        page = visitor.get("/").text
        assert "Jukebox 1.2.3" in page and "20261122T190500Z-1a2b3c4" in page

    def test_pages_load_nothing_from_elsewhere(self, visitor: Client, track: Track) -> None:
        answer = visitor.get("/")
        assert "default-src 'self'" in answer["Content-Security-Policy"]
        assert "http://" not in answer.text and "https://" not in answer.text
        assert " style=" not in answer.text, "the policy forbids inline styles"

    def test_titles_are_escaped(self, visitor: Client, track: Track) -> None:
        Track.objects.filter(pk=track.pk).update(title="<script>", album='"><script>')
        for page in ("/", f"/tracks/{track.slug}/"):
            assert "<script>" not in visitor.get(page).text

    @pytest.mark.parametrize("address", ["/tracks/no-such-song/", "/nowhere"])
    def test_what_is_not_there(self, visitor: Client, address: str) -> None:
        answer = visitor.get(address)
        assert answer.status_code == 404
        assert "Not in the box" in answer.text

    def test_an_unknown_host_name_is_refused(self, visitor: Client) -> None:
        assert visitor.get("/", headers={"host": "evil.example"}).status_code == 400

    def test_static_files_come_with_the_release(self, visitor: Client) -> None:
        page = visitor.get("/").text
        address = page.split('rel="stylesheet" href="')[1].split('"')[0]
        assert address.startswith("/static/music/jukebox.css?v=")
        answer = visitor.get(address)
        assert answer.status_code == 200
        assert answer["Cache-Control"] == "max-age=300, public"
        answer.close()


def test_the_library_is_the_same_everywhere(tmp_path: Path) -> None:
    for name in ("one", "two"):
        subprocess.run(
            [sys.executable, ROOT / "make_library.py", tmp_path / name],
            check=True,
            capture_output=True,
        )
    made = {path.name: path.read_bytes() for path in (tmp_path / "one").iterdir()}
    again = {path.name: path.read_bytes() for path in (tmp_path / "two").iterdir()}
    assert made == again
    assert made.pop("catalogue.json") == (ROOT / "catalogue.json").read_bytes()
    assert {name: len(data) for name, data in made.items()} == {
        song["file"]: song["size"] for song in SONGS
    }


def test_the_library_says_where_it_cannot_write(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    done = subprocess.run(
        [sys.executable, ROOT / "make_library.py", tmp_path / "file" / "out"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert done.stderr.startswith("make_library: cannot write to ")
    assert "Traceback" not in done.stderr
