"""What the origin of the audio files is told."""

from __future__ import annotations

from tests.templates.test_templates import render


def test_only_the_fleet_may_ask() -> None:
    text = render("media", "media.conf.j2", media_allowed_networks=["198.51.100.0/24"])
    assert "allow 198.51.100.0/24;" in text and "deny all;" in text


def test_packages_are_served_only_where_they_are_made() -> None:
    assert "/hls/" not in render("media", "media.conf.j2")
    text = render("media", "media.conf.j2", media_hls=True)
    assert "location /hls/ {" in text and "alias /srv/media-hls/;" in text


def test_an_index_is_not_kept_for_a_year() -> None:
    text = render("media", "media.conf.j2", media_hls=True)
    assert '"~/index\\.m3u8$" "public, max-age=60";' in text
