"""What every web process of the jukebox has in common; the rest is in backline.toml."""

from __future__ import annotations

worker_class = "gthread"
threads = 8
# One import for all workers: quicker to start, and less memory. Nothing is connected at import.
preload_app = True
timeout = 30
graceful_timeout = 25
# nginx opens a connection per request over the socket.
keepalive = 2
control_socket_disable = True
logconfig_dict = {
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
        "gunicorn.error": {"level": "INFO", "handlers": [], "propagate": True},
        # nginx keeps the access log.
        "gunicorn.access": {"level": "CRITICAL", "handlers": [], "propagate": False},
    },
}
