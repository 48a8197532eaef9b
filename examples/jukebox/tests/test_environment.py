"""What an operator gets wrong in /etc/jukebox/jukebox.env is said at once and in plain words."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys

import pytest
from django.core.exceptions import ImproperlyConfigured

from jukebox.environment import Environment
from jukebox.logs import JsonFormatter
from tests.conftest import ROOT
from tests.settings import ENVIRONMENT

REQUIRED = [
    "JUKEBOX_SECRET_KEY",
    "JUKEBOX_ALLOWED_HOSTS",
    "JUKEBOX_DATABASE_HOSTS",
    "JUKEBOX_DATABASE_NAME",
    "JUKEBOX_DATABASE_USER",
    "JUKEBOX_DATABASE_PASSWORD",
    "JUKEBOX_BROKER_URL",
]


@pytest.mark.parametrize("name", REQUIRED)
@pytest.mark.parametrize("value", [None, "", "  "])
def test_a_missing_variable_is_named(name: str, value: str | None) -> None:
    environ = {key: text for key, text in ENVIRONMENT.items() if key != name}
    if value is not None:
        environ[name] = value
    with pytest.raises(ImproperlyConfigured, match=f"{name} is not set"):
        Environment.read(environ)


def test_all_problems_are_named_together() -> None:
    with pytest.raises(ImproperlyConfigured) as caught:
        Environment.read({"JUKEBOX_DATABASE_PORT": "99999", "JUKEBOX_SECRET_KEY": "short"})
    for name in REQUIRED[1:]:
        assert f"{name} is not set" in str(caught.value)
    assert "JUKEBOX_DATABASE_PORT is not a port number: '99999'" in str(caught.value)
    assert "JUKEBOX_SECRET_KEY is shorter than 32 characters" in str(caught.value)


@pytest.mark.parametrize("prefix", ["media", "/media", "media/", "/a/../b/"])
def test_a_media_prefix_that_nginx_would_misread(prefix: str) -> None:
    with pytest.raises(ImproperlyConfigured, match="JUKEBOX_MEDIA_PREFIX"):
        Environment.read({**ENVIRONMENT, "JUKEBOX_MEDIA_PREFIX": prefix})


def test_lists_and_defaults() -> None:
    read = Environment.read({**ENVIRONMENT, "JUKEBOX_DATABASE_HOSTS": "db1, db2 ,db3"})
    assert read.database_hosts == ["db1", "db2", "db3"]
    assert (read.database_port, read.media_prefix) == ("5432", "/_media/")


def test_tls_is_optional() -> None:
    read = Environment.read(ENVIRONMENT)
    assert (read.database_sslmode, read.database_sslrootcert, read.database_hostaddr) == (
        "",
        "",
        [],
    )
    assert read.broker_ca == ""


@pytest.mark.parametrize(
    ("name", "value", "problem"),
    [
        ("JUKEBOX_DATABASE_SSLMODE", "yes", "is none of disable, allow"),
        ("JUKEBOX_DATABASE_SSLMODE", "verify-full", "JUKEBOX_DATABASE_SSLROOTCERT is not set"),
        ("JUKEBOX_DATABASE_SSLROOTCERT", "/nowhere/ca.pem", "is no file that can be read"),
        ("JUKEBOX_DATABASE_HOSTADDR", "127.0.0.1,127.0.0.2", "has 2 addresses for 1 hosts"),
        ("JUKEBOX_BROKER_CA", "/nowhere/ca.pem", "is no file that can be read"),
        ("JUKEBOX_BROKER_CA", __file__, "JUKEBOX_BROKER_URL is not amqps:// throughout"),
    ],
)
def test_tls_that_would_not_protect_is_refused(name: str, value: str, problem: str) -> None:
    with pytest.raises(ImproperlyConfigured, match=f"{name} .*{problem}"):
        Environment.read({**ENVIRONMENT, name: value})


def test_one_broker_without_tls_is_enough_to_refuse_it() -> None:
    url = "amqps://ada:pw@broker1/jukebox;amqp://ada:pw@broker2/jukebox"
    mixed = {**ENVIRONMENT, "JUKEBOX_BROKER_URL": url, "JUKEBOX_BROKER_CA": __file__}
    with pytest.raises(ImproperlyConfigured, match="not amqps:// throughout") as caught:
        Environment.read(mixed)
    assert "pw" not in str(caught.value)
    Environment.read({**mixed, "JUKEBOX_BROKER_URL": url.replace("amqp:", "amqps:")})


def test_the_command_line_says_it_in_one_line() -> None:
    environ = {"PATH": os.environ["PATH"]}
    done = subprocess.run(
        [sys.executable, "manage.py", "check"],
        cwd=ROOT, env=environ, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 1
    assert done.stderr.startswith("jukebox: cannot start, the environment is incomplete: ")
    assert "Traceback" not in done.stderr


def test_log_lines_are_json_with_their_extras() -> None:
    record = logging.makeLogRecord(
        {"name": "music", "levelname": "INFO", "msg": "play %s", "args": ("announced",), "play": 7}
    )
    line = json.loads(JsonFormatter().format(record))
    assert line["message"] == "play announced"
    assert line["play"] == 7
    assert line["level"] == "info"
    assert "args" not in line
