"""The Celery application: `celery -A jukebox worker` finds it here."""

from __future__ import annotations

import logging.config
import os

from celery import Celery
from celery.signals import celeryd_init, setup_logging

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "jukebox.settings")

app = Celery("jukebox")
app.config_from_object("django.conf:settings", namespace="CELERY")
app.autodiscover_tasks(["music"])


@setup_logging.connect
def log_like_the_web(**_: object) -> None:
    """Workers write the same JSON lines as the web processes."""
    from django.conf import settings

    logging.config.dictConfig(settings.LOGGING)


@celeryd_init.connect
def ask_each_broker_once(**_: object) -> None:
    """A worker declares delays on each broker before it takes jobs. They are one cluster, so one answer is
    enough: with the usual retries, a broker whose host is gone kept it from jobs for half a minute."""
    from celery.worker.consumer import delayed_delivery

    delayed_delivery.MAX_RETRIES = 0
