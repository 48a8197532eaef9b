"""Keeps a provisioned fleet as images with its keys and secrets, and starts from them in seconds."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

from backline.errors import BacklineError
from backline.lab import files, fleet
from backline.lab.image import REPOSITORY
from backline.lab.machine import STATE, Say, podman

FOLDER = STATE / "snapshots"
PREFIX = "localhost/backline-snapshot-"


def take(state: files.LabState, name: str, say: Say) -> None:
    """Keeps lab `state` as snapshot `name`, replacing one of the same name."""
    if not re.fullmatch(r"[a-z0-9][a-z0-9-]*", name):
        raise BacklineError(
            f"{name!r} cannot name a snapshot", hint="use small letters, digits and hyphens"
        )
    images = fleet.commit(state.topology(), name, say)
    place = FOLDER / name
    if place.exists():
        shutil.rmtree(place)
    shutil.copytree(files.folder(state.env), place / "state")
    inventory = files.INVENTORY / state.env
    shutil.copy(inventory / "group_vars" / "all" / "secrets.yml", place / "secrets.yml")
    shutil.copy(inventory / "edge-ca.pem", place / "edge-ca.pem")
    (place / "images.json").write_text(json.dumps(images), encoding="utf-8")


def restore(
    env: str, name: str, present: files.LabState | None
) -> tuple[files.LabState, dict[str, str]]:
    """Lays the keys and secrets of snapshot `name` for lab `env`; returns its state and images.

    A lab that is there already keeps its own hosts: then only stopped ones are started.
    """
    place: Path = FOLDER / name
    if not (place / "images.json").exists():
        known = sorted(path.name for path in FOLDER.iterdir()) if FOLDER.is_dir() else []
        raise BacklineError(
            f"there is no snapshot {name!r}",
            hint=f"there are: {', '.join(known)}" if known else "keep one: inv lab.snapshot",
        )
    images: dict[str, str] = json.loads((place / "images.json").read_text(encoding="utf-8"))
    if present:
        return present, images
    kept = json.loads((place / "state" / "lab.json").read_text(encoding="utf-8"))
    if kept["env"] != env:
        # Addresses and names are inside the kept hosts: they fit the lab they were taken from.
        raise BacklineError(
            f"snapshot {name!r} was taken of lab {kept['env']!r}",
            hint=f"inv lab.up --env {kept['env']} --from-snapshot {name}",
        )
    shutil.copytree(place / "state", files.folder(env), dirs_exist_ok=True)
    variables = files.INVENTORY / env / "group_vars" / "all"
    variables.mkdir(parents=True, exist_ok=True)
    shutil.copy(place / "secrets.yml", variables / "secrets.yml")
    shutil.copy(place / "edge-ca.pem", files.INVENTORY / env / "edge-ca.pem")
    return files.LabState(**kept), images


def remove_images(say: Say) -> None:
    """Removes the lab's image and every snapshot; images in use by another lab stay."""
    listed = podman("images", "--format", "{{.Repository}}:{{.Tag}}").split()
    mine = [name for name in listed if name.startswith((PREFIX, REPOSITORY + ":"))]
    for name in mine:
        say(f"removing image {name}")
        podman("rmi", name)
    if FOLDER.is_dir():
        shutil.rmtree(FOLDER)
