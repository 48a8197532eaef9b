"""Commands of a release, run as the app's user with the app's environment: checks, migrations.

Secrets come from the environment file, never from a command line, and are taken out of whatever
a command printed before anybody else sees it.
"""

from __future__ import annotations

import re
import shlex
from pathlib import Path

from . import settings
from .errors import HostctlError
from .host import Completed, Host
from .settings import App, Manifest

SECRET_NAME = re.compile(r"PASSWORD|SECRET|TOKEN|KEY|URL|DSN|CREDENTIAL", re.IGNORECASE)
VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


def run(host: Host, app: App, manifest: Manifest, argv: list[str], timeout: float) -> Completed:
    """Run a filled-in command of a release in its app folder; its output has no secrets in it."""
    secrets = environment_file(host.path(app.env_file))
    environment = {
        "LANG": "C.UTF-8",
        "HOME": str(host.path(f"{app.root}/shared")),
        **secrets,
        **settings.environment(host, app, manifest),
    }
    folder = settings.release_folder(host, app, str(manifest["id"])) / "app"
    user, group = (app.user, app.group) if host.become else (None, None)
    ended = host.run(
        argv, timeout=timeout, cwd=str(folder), env=environment, user=user, group=group
    )
    return Completed(ended.status, redact(ended.out, secrets), redact(ended.err, secrets))


def redact(text: str, environment: dict[str, str]) -> str:
    """`text` without the values of those variables whose names sound like secrets."""
    values = {
        value for name, value in environment.items() if SECRET_NAME.search(name) and len(value) > 5
    }
    for value in sorted(values, key=len, reverse=True):
        text = text.replace(value, "***")
    return text


def environment_file(path: Path) -> dict[str, str]:
    """Read a file in the format of systemd's EnvironmentFile=.

    Raises `HostctlError` (bad_environment), naming the line and never its content.
    """
    try:
        text = path.read_text()
    except FileNotFoundError:
        raise HostctlError(
            "bad_environment", f"{path} is missing", "run the playbook that writes it"
        ) from None
    found = {}
    for number, line in enumerate(text.replace("\\\n", "").splitlines(), start=1):
        line = line.strip()
        if not line or line[0] in "#;":
            continue
        name, equals, raw = line.partition("=")
        try:
            value = _value(raw.strip())
        except ValueError:
            value, equals = "", ""
        if not equals or not VARIABLE.fullmatch(name.strip()):
            raise HostctlError(
                "bad_environment", f"{path}: line {number} is not NAME=value", "correct the role"
            )
        found[name.strip()] = value
    return found


def _value(raw: str) -> str:
    """A value, unquoted as systemd does it: quotes only count where they open the value."""
    if raw[:1] not in ("'", '"'):
        return re.sub(r"\\(.)", r"\1", raw)
    words = shlex.split(raw)
    return words[0] if words else ""
