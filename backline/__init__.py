"""Backline: infrastructure automation for a music-streaming company."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from backline.api import Fleet

__version__ = "0.1.0"


def fleet(name: str = "") -> Fleet:
    """The fleet of an environment (default: $BACKLINE_ENV), for programs: docs/reference/python.md.

    Raises BacklineError when there is no such environment. Connects to nobody yet.
    """
    from backline.api import Fleet

    return Fleet.named(name)


__all__ = ["fleet"]
