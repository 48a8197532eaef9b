"""The Celery application: `celery -A jukebox worker` finds it here."""

from __future__ import annotations

import logging.config
import os

from celery import Celery
from celery.signals import setup_logging

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "jukebox.settings")

app = Celery("jukebox")
app.config_from_object("django.conf:settings", namespace="CELERY")
app.autodiscover_tasks(["music"])


@setup_logging.connect
def log_like_the_web(**_: object) -> None:
    """Workers write the same JSON lines as the web processes."""
    from django.conf import settings

    logging.config.dictConfig(settings.LOGGING)
