"""The real settings, with an environment made up for the tests."""

from __future__ import annotations

import os

from tests.postgres import Cluster

#: Made when the first test needs a database, see conftest.py.
CLUSTER = Cluster()

ENVIRONMENT = {
    "JUKEBOX_SECRET_KEY": "only-for-tests-" + "x" * 40,
    "JUKEBOX_ALLOWED_HOSTS": "jukebox.example",
    "JUKEBOX_CSRF_TRUSTED_ORIGINS": "https://jukebox.example",
    "JUKEBOX_DATABASE_HOSTS": str(CLUSTER.folder),
    "JUKEBOX_DATABASE_NAME": "postgres",
    "JUKEBOX_DATABASE_USER": CLUSTER.superuser,
    "JUKEBOX_DATABASE_PASSWORD": "unused-over-a-socket",
    "JUKEBOX_BROKER_URL": "memory://",
    "BACKLINE_RELEASE": "20261122T190500Z-1a2b3c4",
    "BACKLINE_VERSION": "1.2.3",
}
for name in [name for name in os.environ if name.startswith("JUKEBOX_")]:
    del os.environ[name]
os.environ.update(ENVIRONMENT)

from jukebox.settings import *  # noqa: E402, F403

# The real one takes a third of a second for each account, on purpose.
PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
