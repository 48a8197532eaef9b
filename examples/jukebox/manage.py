#!/usr/bin/env python3
"""Django's command line for the jukebox."""

from __future__ import annotations

import os
import sys


def main() -> None:
    """Run the command, and say in one line what the environment lacks."""
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "jukebox.settings")
    from django.core.exceptions import ImproperlyConfigured
    from django.core.management import execute_from_command_line

    try:
        execute_from_command_line(sys.argv)
    except ImproperlyConfigured as error:
        sys.exit(f"jukebox: {error}")


if __name__ == "__main__":
    main()
