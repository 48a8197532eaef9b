"""Django's settings. What differs between places comes from the environment, see environment.py."""

from __future__ import annotations

import os
from pathlib import Path

from jukebox import amqps
from jukebox.environment import Environment

BASE_DIR = Path(__file__).resolve().parent.parent
_environment = Environment.read(os.environ)

RELEASE = _environment.release
VERSION = _environment.version
MEDIA_PREFIX = _environment.media_prefix

DEBUG = False
SECRET_KEY = _environment.secret_key
# Keys that are accepted but sign nothing: how a new key comes in without signing anybody out.
SECRET_KEY_FALLBACKS = _environment.secret_key_fallbacks
ALLOWED_HOSTS = _environment.allowed_hosts
CSRF_TRUSTED_ORIGINS = _environment.csrf_trusted_origins
ROOT_URLCONF = "jukebox.urls"
WSGI_APPLICATION = "jukebox.wsgi.application"
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

INSTALLED_APPS = [
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
    "music",
]

MIDDLEWARE = [
    # Outermost, so that error pages and the health pages name the release, too.
    "jukebox.release.named",
    # Before the others: health is asked over the socket, by any host name, without a session.
    "jukebox.health.HealthMiddleware",
    "django.middleware.security.SecurityMiddleware",
    "whitenoise.middleware.WhiteNoiseMiddleware",
    "jukebox.security.content_security_policy",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
]

TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
                "jukebox.release.context",
            ],
        },
    },
]

# --- Data. With several hosts libpq walks through them until one takes writes. One host is a proxy that
# leads to the primary; behind it PgBouncer may say of its server what was so before a failover.
# With an address a host's name is for verifying it only.
_DATABASE_TLS = {
    "sslmode": _environment.database_sslmode,
    "sslrootcert": _environment.database_sslrootcert,
    "hostaddr": ",".join(_environment.database_hostaddr),
}
DATABASES = {
    "default": {
        "ENGINE": "django.db.backends.postgresql",
        "HOST": ",".join(_environment.database_hosts),
        "PORT": _environment.database_port,
        "NAME": _environment.database_name,
        "USER": _environment.database_user,
        "PASSWORD": _environment.database_password,
        "CONN_MAX_AGE": 60,
        "CONN_HEALTH_CHECKS": True,
        # PgBouncer hands a connection to somebody else after each transaction.
        "DISABLE_SERVER_SIDE_CURSORS": True,
        "OPTIONS": {
            "target_session_attrs": "read-write" if len(_environment.database_hosts) > 1 else "any",
            # Who connects while a leader hands over is answered when the other one leads: seconds later.
            "connect_timeout": 10,
            "keepalives_idle": 10,
            "keepalives_interval": 5,
            "keepalives_count": 3,
            "tcp_user_timeout": 10_000,
            "application_name": "jukebox",
            **{name: value for name, value in _DATABASE_TLS.items() if value},
        },
    }
}

# --- Jobs
CELERY_BROKER_URL = _environment.broker_url
if "amqps://" in CELERY_BROKER_URL:
    CELERY_BROKER_USE_SSL = amqps.settings(_environment.broker_ca)
CELERY_BROKER_CONNECTION_TIMEOUT = 2
CELERY_BROKER_HEARTBEAT = 10
CELERY_BROKER_CONNECTION_RETRY_ON_STARTUP = True
CELERY_BROKER_CONNECTION_MAX_RETRIES = None
# A publisher waits until a majority of the brokers has the message on disk.
CELERY_BROKER_TRANSPORT_OPTIONS = {"confirm_publish": True}
CELERY_TASK_DEFAULT_QUEUE = "plays"
CELERY_TASK_DEFAULT_QUEUE_TYPE = "quorum"
# Delivery limit and dead letters are the broker's policy, not arguments of the queue: arguments
# can't change while an old release still declares the queue with the old ones.
CELERY_TASK_DEFAULT_EXCHANGE_TYPE = "topic"
CELERY_TASK_CREATE_MISSING_QUEUE_TYPE = "quorum"
CELERY_TASK_CREATE_MISSING_QUEUE_EXCHANGE_TYPE = "topic"
CELERY_TASK_IGNORE_RESULT = True
CELERY_TASK_ACKS_LATE = True
CELERY_TASK_REJECT_ON_WORKER_LOST = True
# A job that fails for good goes to the dead letters instead of vanishing.
CELERY_TASK_ACKS_ON_FAILURE_OR_TIMEOUT = False
CELERY_TASK_TIME_LIMIT = 60
CELERY_TASK_SOFT_TIME_LIMIT = 45
CELERY_WORKER_CANCEL_LONG_RUNNING_TASKS_ON_CONNECTION_LOSS = True
CELERY_WORKER_HIJACK_ROOT_LOGGER = False

# --- People
LOGIN_URL = "sign-in"
LOGIN_REDIRECT_URL = "catalogue"
LOGOUT_REDIRECT_URL = "catalogue"
AUTH_PASSWORD_VALIDATORS = [
    {"NAME": f"django.contrib.auth.password_validation.{name}"}
    for name in (
        "UserAttributeSimilarityValidator",
        "MinimumLengthValidator",
        "CommonPasswordValidator",
        "NumericPasswordValidator",
    )
]

# --- Security. TLS ends at the edge, which also sends HSTS and redirects plain HTTP.
SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https")
SESSION_COOKIE_SECURE = True
CSRF_COOKIE_SECURE = True
# HSTS (W004) and the redirect to HTTPS (W008).
SILENCED_SYSTEM_CHECKS = ["security.W004", "security.W008"]
CSRF_FAILURE_VIEW = "music.views.csrf_failure"

# --- Pages' own files: served from the release as it is, nothing to collect.
STATIC_URL = "/static/"
WHITENOISE_USE_FINDERS = True
WHITENOISE_MAX_AGE = 300
STORAGES = {
    "default": {"BACKEND": "django.core.files.storage.InMemoryStorage"},
    "staticfiles": {"BACKEND": "jukebox.release.VersionedStaticFiles"},
}

LANGUAGE_CODE = "en"
USE_I18N = False
USE_TZ = True
TIME_ZONE = "UTC"

LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {"json": {"()": "jukebox.logs.JsonFormatter"}},
    "handlers": {
        "stdout": {
            "class": "logging.StreamHandler",
            "stream": "ext://sys.stdout",
            "formatter": "json",
        }
    },
    "root": {"level": "INFO", "handlers": ["stdout"]},
    "loggers": {
        # Django's own handlers print on stderr or send mail: one stream is enough.
        "django": {"level": "INFO", "handlers": [], "propagate": True},
        "django.request": {"level": "ERROR"},
    },
}
