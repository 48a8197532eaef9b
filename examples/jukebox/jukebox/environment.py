"""Everything the jukebox is told from outside, read from environment variables and nowhere else."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from django.core.exceptions import ImproperlyConfigured

SHORTEST_SECRET = 32


class _Reader:
    """Reads variables and gathers what is wrong, so that all of it is said at once."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        self.environ = environ
        self.problems: list[str] = []

    def text(self, name: str, default: str | None = None) -> str:
        value = self.environ.get(name, "").strip() or default
        if value is None:
            self.problems.append(f"{name} is not set")
            return ""
        return value

    def words(self, name: str, default: str | None = None) -> list[str]:
        return [word.strip() for word in self.text(name, default).split(",") if word.strip()]

    def port(self, name: str, default: str) -> str:
        value = self.text(name, default)
        if not (value.isascii() and value.isdigit() and 0 < int(value) < 65536):
            self.problems.append(f"{name} is not a port number: {value!r}")
        return value

    def secret(self, name: str) -> str:
        value = self.text(name)
        if value and len(value) < SHORTEST_SECRET:
            self.problems.append(f"{name} is shorter than {SHORTEST_SECRET} characters")
        return value

    def folder_address(self, name: str, default: str) -> str:
        value = self.text(name, default)
        if not (value.startswith("/") and value.endswith("/") and ".." not in value):
            self.problems.append(f"{name} must begin and end with a slash: {value!r}")
        return value


@dataclass(frozen=True)
class Environment:
    """The checked variables."""

    secret_key: str
    secret_key_fallbacks: list[str]
    allowed_hosts: list[str]
    csrf_trusted_origins: list[str]
    database_hosts: list[str]
    database_port: str
    database_name: str
    database_user: str
    database_password: str
    broker_url: str
    media_prefix: str
    release: str
    version: str

    @classmethod
    def read(cls, environ: Mapping[str, str]) -> Environment:
        """The variables, checked. Raises `ImproperlyConfigured` naming every one that is wrong."""
        reader = _Reader(environ)
        values = cls(
            secret_key=reader.secret("JUKEBOX_SECRET_KEY"),
            secret_key_fallbacks=reader.words("JUKEBOX_SECRET_KEY_FALLBACKS", ""),
            allowed_hosts=reader.words("JUKEBOX_ALLOWED_HOSTS"),
            csrf_trusted_origins=reader.words("JUKEBOX_CSRF_TRUSTED_ORIGINS", ""),
            database_hosts=reader.words("JUKEBOX_DATABASE_HOSTS"),
            database_port=reader.port("JUKEBOX_DATABASE_PORT", "5432"),
            database_name=reader.text("JUKEBOX_DATABASE_NAME"),
            database_user=reader.text("JUKEBOX_DATABASE_USER"),
            database_password=reader.text("JUKEBOX_DATABASE_PASSWORD"),
            broker_url=reader.text("JUKEBOX_BROKER_URL"),
            media_prefix=reader.folder_address("JUKEBOX_MEDIA_PREFIX", "/_media/"),
            release=reader.text("BACKLINE_RELEASE", "unreleased"),
            version=reader.text("BACKLINE_VERSION", "0"),
        )
        if reader.problems:
            raise ImproperlyConfigured(
                "cannot start, the environment is incomplete: " + "; ".join(reader.problems)
            )
        return values
