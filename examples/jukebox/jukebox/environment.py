"""Everything the jukebox is told from outside, read from environment variables and nowhere else."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass

from django.core.exceptions import ImproperlyConfigured

SHORTEST_SECRET = 32
#: libpq's own words; "" leaves the choice to libpq.
SSL_MODES = ("", "disable", "allow", "prefer", "require", "verify-ca", "verify-full")


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

    def file(self, name: str) -> str:
        """A file that is there, or "" when the variable is not set."""
        value = self.text(name, "")
        if value and not os.access(value, os.R_OK):
            self.problems.append(f"{name} is no file that can be read: {value!r}")
        return value

    def ssl_mode(self, name: str, authorities: str) -> str:
        """How the server is verified; `authorities` names the variable with the file for it."""
        value = self.text(name, "")
        if value not in SSL_MODES:
            self.problems.append(f"{name} is none of {', '.join(SSL_MODES[1:])}: {value!r}")
        if value.startswith("verify-") and not self.text(authorities, ""):
            self.problems.append(f"{name} is {value}, and {authorities} is not set")
        return value

    def addresses(self, name: str, hosts: list[str]) -> list[str]:
        """An address for each host, or none at all."""
        values = self.words(name, "")
        if values and len(values) != len(hosts):
            self.problems.append(
                f"{name} has {len(values)} addresses for {len(hosts)} hosts: one for each is needed"
            )
        return values

    def broker_authorities(self, name: str, url: str) -> str:
        """The file by which brokers are verified, which says nothing about one without TLS."""
        value = self.file(name)
        plain = [part for part in self.text(url, "").split(";") if not part.startswith("amqps://")]
        if value and plain:
            self.problems.append(f"{name} is set, and {url} is not amqps:// throughout")
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
    database_sslmode: str
    database_sslrootcert: str
    database_hostaddr: list[str]
    broker_url: str
    broker_ca: str
    media_prefix: str
    release: str
    version: str

    @classmethod
    def read(cls, environ: Mapping[str, str]) -> Environment:
        """The variables, checked. Raises `ImproperlyConfigured` naming every one that is wrong."""
        reader = _Reader(environ)
        hosts = reader.words("JUKEBOX_DATABASE_HOSTS")
        values = cls(
            secret_key=reader.secret("JUKEBOX_SECRET_KEY"),
            secret_key_fallbacks=reader.words("JUKEBOX_SECRET_KEY_FALLBACKS", ""),
            allowed_hosts=reader.words("JUKEBOX_ALLOWED_HOSTS"),
            csrf_trusted_origins=reader.words("JUKEBOX_CSRF_TRUSTED_ORIGINS", ""),
            database_hosts=hosts,
            database_port=reader.port("JUKEBOX_DATABASE_PORT", "5432"),
            database_name=reader.text("JUKEBOX_DATABASE_NAME"),
            database_user=reader.text("JUKEBOX_DATABASE_USER"),
            database_password=reader.text("JUKEBOX_DATABASE_PASSWORD"),
            database_sslmode=reader.ssl_mode(
                "JUKEBOX_DATABASE_SSLMODE", "JUKEBOX_DATABASE_SSLROOTCERT"
            ),
            database_sslrootcert=reader.file("JUKEBOX_DATABASE_SSLROOTCERT"),
            database_hostaddr=reader.addresses("JUKEBOX_DATABASE_HOSTADDR", hosts),
            broker_url=reader.text("JUKEBOX_BROKER_URL"),
            broker_ca=reader.broker_authorities("JUKEBOX_BROKER_CA", "JUKEBOX_BROKER_URL"),
            media_prefix=reader.folder_address("JUKEBOX_MEDIA_PREFIX", "/_media/"),
            release=reader.text("BACKLINE_RELEASE", "unreleased"),
            version=reader.text("BACKLINE_VERSION", "0"),
        )
        if reader.problems:
            raise ImproperlyConfigured(
                "cannot start, the environment is incomplete: " + "; ".join(reader.problems)
            )
        return values
