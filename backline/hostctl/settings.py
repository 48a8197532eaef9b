"""What the roles and the release say: app.json, processes/<name>.json and release.json.

The roles' files are root's and trusted; the manifest is trusted once its signature was checked,
which happens before it gets to where `manifest` reads it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from .errors import HostctlError

if TYPE_CHECKING:
    from .host import Host

PLACEHOLDER = re.compile(r"\{([a-z_]+)\}")
UNIT = re.compile(r"[a-zA-Z0-9_-]+@\.service")
CONFIGURATION = "/etc/backline/apps"
KINDS = ("http", "worker", "singleton")

Manifest = dict[str, Any]


class App(NamedTuple):
    """An app of this host, as the role `app` declares it. Paths are on the host."""

    name: str
    user: str
    group: str
    env_file: str
    root: str
    run: str


class Process(NamedTuple):
    """A process of this host: which process of the release, in which unit, with what settings."""

    name: str
    process: str
    kind: str
    unit: str
    parameters: dict[str, str]


def apps(host: Host) -> list[str]:
    """The names of the apps declared on this host."""
    folder = host.path(CONFIGURATION)
    return sorted(path.parent.name for path in folder.glob("*/app.json"))


def app(host: Host, name: str) -> App:
    """The declaration of an app. Raises `HostctlError` (unknown_app, bad_settings)."""
    path = host.path(f"{CONFIGURATION}/{name}/app.json")
    if not path.is_file():
        known = ", ".join(apps(host)) or "none"
        raise HostctlError(
            "unknown_app",
            f"this host has no app {name} (it has: {known})",
            f"run the playbook that puts {name} on this host first",
        )
    found = _read(path)
    texts = {
        "user": name,
        "group": name,
        "env_file": f"/etc/{name}/{name}.env",
        "root": f"/srv/{name}",
        "run": f"/run/{name}",
    }
    values = {key: found.get(key, default) for key, default in texts.items()}
    if found.get("app") != name or not all(isinstance(value, str) for value in values.values()):
        raise _bad(path, f"it must name the app {name}, and its fields must be text")
    return App(name, **values)


def process_names(host: Host, app_name: str) -> list[str]:
    """The names of an app's processes on this host."""
    folder = host.path(f"{CONFIGURATION}/{app_name}/processes")
    return sorted(path.stem for path in folder.glob("*.json"))


def process(host: Host, app_name: str, name: str) -> Process:
    """The declaration of a process. Raises `HostctlError` (unknown_process, bad_settings)."""
    path = host.path(f"{CONFIGURATION}/{app_name}/processes/{name}.json")
    if not path.is_file():
        known = ", ".join(process_names(host, app_name)) or "none"
        raise HostctlError(
            "unknown_process",
            f"{app_name} has no process {name} on this host (it has: {known})",
            "run the playbook that declares it, or name another process",
        )
    found = _read(path)
    kind, unit = found.get("kind"), found.get("unit")
    parameters = found.get("parameters", {})
    if kind not in KINDS:
        raise _bad(path, f"kind must be one of {', '.join(KINDS)}")
    if not isinstance(unit, str) or not UNIT.fullmatch(unit):
        raise _bad(path, "unit must be a template like jukebox-web@.service")
    if not isinstance(parameters, dict):
        raise _bad(path, "parameters must be an object")
    texts = {str(key): str(value) for key, value in parameters.items()}
    wanted = scales(host, app_name).get(name)
    texts = texts if wanted is None else scaled(texts, wanted)
    return Process(name, str(found.get("process", name)), kind, unit, texts)


def scale_file(host: Host, app_name: str) -> Path:
    """Where `hostctl scale` keeps what it was told. `exec` reads it too, as the app's user."""
    return host.path(f"{CONFIGURATION}/{app_name}/scale.json")


def scales(host: Host, app_name: str) -> dict[str, int]:
    """The processes whose number of children an operator has set: {process: children}."""
    path = scale_file(host, app_name)
    if not path.exists():
        return {}
    found = _read(path)
    if not all(isinstance(value, int) and value > 0 for value in found.values()):
        raise _bad(path, "it must hold whole numbers")
    return found


def scaled(parameters: Mapping[str, str], children: int) -> dict[str, str]:
    """A pool's parameters with so many children. All of them share what memory the pool has, and the
    main process counts as one, as in the role that computed their share."""
    before = int(parameters["concurrency"]) if parameters.get("concurrency", "").isdecimal() else 0
    own = {**parameters, "concurrency": str(children)}
    share = parameters.get("max_memory_per_child", "")
    if before and share.isdecimal() and children > before:
        own["max_memory_per_child"] = str(int(share) * (before + 1) // (children + 1))
    return own


def release_folder(host: Host, app: App, release: str) -> Path:
    """Where a staged release is."""
    return host.path(f"{app.root}/releases/{release}")


def kept_tar(host: Host, app: App, release: str) -> Path:
    """Where the tar of a staged release is kept, for the patch to the next one. It may be gone."""
    return release_folder(host, app, release) / "release.tar"


def releases(host: Host, app: App) -> list[str]:
    """The IDs of the releases staged on this host, oldest ID first."""
    from .names import is_release

    folder = host.path(f"{app.root}/releases")
    return sorted(path.name for path in folder.glob("*") if is_release(path.name))


def manifest(host: Host, app: App, release: str) -> Manifest:
    """The manifest of a staged release. Raises `HostctlError` (not_staged)."""
    folder = release_folder(host, app, release)
    if not folder.is_dir():
        known = ", ".join(releases(host, app)) or "none"
        raise HostctlError(
            "not_staged",
            f"release {release} of {app.name} is not on this host (staged: {known})",
            "stage it first",
        )
    return _read(folder / "release.json")


def process_manifest(found: Manifest, process: Process) -> dict[str, Any]:
    """The manifest's own words on a process. Raises `HostctlError` (process_not_in_release)."""
    declared: dict[str, Any] = found.get("processes", {})
    if process.process not in declared:
        known = ", ".join(sorted(declared)) or "none"
        raise HostctlError(
            "process_not_in_release",
            f"release {found.get('id')} has no process {process.process} (it has: {known})",
            "compare backline.toml of the release with the processes of this host",
        )
    entry: dict[str, Any] = declared[process.process]
    return entry


def socket_path(host: Host, app: App, release: str) -> Path:
    """Where the web process of a release listens."""
    return host.path(f"{app.run}/{release}.sock")


def placeholders(host: Host, app: App, process: Process, release: str) -> dict[str, str]:
    """What {venv}, {app}, {release}, {socket}, {process} and the parameters stand for."""
    folder = release_folder(host, app, release)
    return {
        **process.parameters,
        "venv": f"{folder}/venv",
        "app": f"{folder}/app",
        "release": release,
        "socket": str(socket_path(host, app, release)),
        "process": process.name,
    }


def fill(command: object, values: Mapping[str, str]) -> list[str]:
    """A command with its placeholders filled in.

    Raises `HostctlError` (bad_command, unknown_placeholder).
    """
    if not isinstance(command, list) or not command:
        raise HostctlError("bad_command", f"the release's command is not a list: {command!r}")

    def value(match: re.Match[str]) -> str:
        if match[1] not in values:
            raise HostctlError(
                "unknown_placeholder",
                f"{{{match[1]}}} in the command means nothing here",
                "known: " + ", ".join(sorted(values)),
            )
        return values[match[1]]

    return [PLACEHOLDER.sub(value, str(word)) for word in command]


def environment(host: Host, app: App, found: Manifest) -> dict[str, str]:
    """What hostctl itself adds to the environment of every process and command of a release."""
    release = str(found.get("id"))
    return {
        "BACKLINE_RELEASE": release,
        "BACKLINE_VERSION": str(found.get("version", "")),
        "PATH": f"{release_folder(host, app, release)}/venv/bin:/usr/local/bin:/usr/bin:/bin",
    }


def _read(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise _bad(path, str(error)) from None
    if not isinstance(found, dict):
        raise _bad(path, "it must be a JSON object")
    return found


def _bad(path: Path, reason: str) -> HostctlError:
    return HostctlError(
        "bad_settings",
        f"{path} cannot be used: {reason}",
        "run the playbook that writes it again",
    )
