"""`{% cover track %}` and `{% play_id %}` for the templates."""

from __future__ import annotations

from uuid import uuid4

from django import template
from django.utils.safestring import SafeString

from music.cover import draw
from music.models import Track

register = template.Library()


@register.simple_tag
def cover(track: Track) -> SafeString:
    """The cover of the song."""
    return draw(track.slug)


@register.simple_tag
def play_id() -> str:
    """A fresh name for one hearing of a song."""
    return str(uuid4())
