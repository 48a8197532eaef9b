"""Brings the catalogue of a release into the database."""

from __future__ import annotations

import json
from argparse import ArgumentParser
from pathlib import Path
from typing import Any

from django.core.exceptions import ValidationError
from django.core.management.base import BaseCommand, CommandError
from django.db import transaction

from music.models import Track

FIELDS = ("title", "artist", "album", "seconds", "file", "sha256", "size", "mime")


def parse(text: str) -> list[Track]:
    """The songs of a catalogue file, each checked. Raises `CommandError` naming the entry."""
    try:
        entries = json.loads(text)
    except json.JSONDecodeError as error:
        raise CommandError(f"not JSON: line {error.lineno}: {error.msg}") from None
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        raise CommandError("must be a list of songs")
    tracks = []
    for number, entry in enumerate(entries, 1):
        name = f"song {number} ({entry.get('slug', 'no slug')})"
        wrong = {"slug", *FIELDS} ^ set(entry)
        if wrong:
            raise CommandError(f"{name}: missing or unknown: {', '.join(sorted(wrong))}")
        song = Track(**entry)
        try:
            song.full_clean(validate_unique=False, validate_constraints=False)
        except ValidationError as error:
            first = next(iter(error.message_dict.items()))
            raise CommandError(f"{name}: {first[0]}: {first[1][0]}") from None
        tracks.append(song)
    slugs = [song.slug for song in tracks]
    twice = sorted({slug for slug in slugs if slugs.count(slug) > 1})
    if twice:
        raise CommandError(f"more than once: {', '.join(twice)}")
    return tracks


class Command(BaseCommand):
    """Adds and updates songs by slug, all or nothing; the second time it changes nothing.

    Songs that the file no longer names stay: the release before this one may still play them.
    """

    help = "Add and update the songs of a catalogue file."

    def add_arguments(self, parser: ArgumentParser) -> None:
        """One file."""
        parser.add_argument("file", type=Path)

    def handle(self, *args: Any, **options: Any) -> None:
        """Read, check, write, report."""
        path: Path = options["file"]
        try:
            tracks = parse(path.read_text(encoding="utf-8"))
        except OSError as error:
            raise CommandError(f"{path}: {error.strerror}") from None
        except CommandError as error:
            raise CommandError(f"{path}: {error}") from None
        with transaction.atomic():
            known = {song.slug: song for song in Track.objects.all()}
            changed = [song for song in tracks if differs(song, known.get(song.slug))]
            Track.objects.bulk_create(
                changed, update_conflicts=True, unique_fields=["slug"], update_fields=FIELDS
            )
        kept = len(set(known) - {song.slug for song in tracks})
        self.stdout.write(
            f"catalogue: {len(tracks)} songs, {len(changed)} new or changed, {kept} others kept"
        )


def differs(song: Track, known: Track | None) -> bool:
    """Is there anything to write?"""
    return known is None or any(getattr(song, name) != getattr(known, name) for name in FIELDS)
