"""Commands of a release, run as the app's user with the app's environment: checks, migrations.

Secrets come from the environment file, never from a command line, and are taken out of whatever
a command printed before anybody else sees it.
"""

from __future__ import annotations

import re

from . import envfile, settings
from .host import Completed, Host
from .settings import App, Manifest

SECRET_NAME = re.compile(r"PASSWORD|SECRET|TOKEN|KEY|URL|DSN|CREDENTIAL", re.IGNORECASE)


def run(
    host: Host,
    app: App,
    manifest: Manifest,
    argv: list[str],
    timeout: float,
    stdin: bytes = b"",
) -> Completed:
    """Run a filled-in command of a release in its app folder; its output has no secrets in it."""
    secrets = envfile.read(host.path(app.env_file))
    environment = {
        "LANG": "C.UTF-8",
        "HOME": str(host.path(f"{app.root}/shared")),
        **secrets,
        **settings.environment(host, app, manifest),
    }
    folder = settings.release_folder(host, app, str(manifest["id"])) / "app"
    user, group = (app.user, app.group) if host.become else (None, None)
    ended = host.run(
        argv,
        timeout=timeout,
        stdin=stdin,
        cwd=str(folder),
        env=environment,
        user=user,
        group=group,
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
