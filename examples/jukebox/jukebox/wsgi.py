"""What gunicorn serves."""

from __future__ import annotations

import os

from django.core.wsgi import get_wsgi_application

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "jukebox.settings")
application = get_wsgi_application()

# Before the workers fork, rather than while the first listener waits for a song.
import kombu.pools  # noqa: E402, F401

import music.tasks  # noqa: E402, F401
