"""Songs, and who played them when."""

from __future__ import annotations

from typing import ClassVar

from django.conf import settings
from django.core.validators import RegexValidator
from django.db import models

#: A plain file name: no folder, no leading dot, so never out of the media folder.
FILE_NAME = r"^[A-Za-z0-9_][A-Za-z0-9._-]*\Z"

#: How songs are listed.
ORDER = ["artist", "album", "title"]


class Track(models.Model):
    """A song of the catalogue. The bytes lie at the media origin under `file`."""

    slug = models.SlugField(max_length=80, unique=True)
    title = models.CharField(max_length=200)
    artist = models.CharField(max_length=200)
    album = models.CharField(max_length=200)
    seconds = models.PositiveIntegerField()
    file = models.CharField(max_length=200, validators=[RegexValidator(FILE_NAME)])
    sha256 = models.CharField(max_length=64, validators=[RegexValidator(r"^[0-9a-f]{64}\Z")])
    size = models.PositiveBigIntegerField()
    mime = models.CharField(max_length=80, validators=[RegexValidator(r"^audio/[a-z0-9.+-]+\Z")])

    class Meta:
        ordering: ClassVar = ORDER
        constraints: ClassVar = [
            models.CheckConstraint(
                name="track_file_is_a_plain_name", condition=models.Q(file__regex=FILE_NAME)
            )
        ]

    def __str__(self) -> str:
        return f"{self.title} by {self.artist}"

    @property
    def length(self) -> str:
        """Minutes and seconds: 3:07."""
        return f"{self.seconds // 60}:{self.seconds % 60:02}"


class Play(models.Model):
    """One listener began to play one song. The ID is minted by the web, before the job is sent:
    a job that arrives twice is one play."""

    id = models.UUIDField(primary_key=True, editable=False)
    listener = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="plays"
    )
    track = models.ForeignKey(Track, on_delete=models.PROTECT, related_name="plays")
    started_at = models.DateTimeField()
    recorded_at = models.DateTimeField(auto_now_add=True)
    release = models.CharField(max_length=64)

    class Meta:
        ordering: ClassVar = ["-started_at"]
        indexes: ClassVar = [
            models.Index(fields=["listener", "-started_at"], name="play_by_listener")
        ]

    def __str__(self) -> str:
        return f"play {self.id}"
