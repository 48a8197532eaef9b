"""The audio files: from a folder to the origins, and out of the caches of the streaming hosts."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from invoke.collection import Collection
from invoke.context import Context

from backline import wording
from backline.errors import BacklineError
from backline.tasks.operator import (
    DRY_HELP,
    ENV_HELP,
    JSON_HELP,
    MESSAGE_HELP,
    YES_HELP,
    asks,
    confirm,
    environment,
    group,
    new_run,
    operation,
    reach,
    several,
)

if TYPE_CHECKING:
    from backline.inventory import Environment
    from backline.operations.cache import Kept

PROGRESS = re.compile(r"\S+: \d+ of \d+ files published, .*")
LOCATION = re.compile(r"/[A-Za-z0-9._/-]*/")
LONGEST = 3600
FEW = 5


@operation(
    positional=["folder"],
    help={
        "folder": "the folder on this machine, the first word",
        "on": "which origins, an Ansible pattern (default: all media hosts)",
        "exclude": "what stays home, comma-separated patterns, a comma of a name as `\\,` (default: the "
        "inventory's media_exclude)",
        "remove": "remove from the origins what the folder does not have",
        "replace": "let other content take the place of a published file; then purge its name",
        "stock": "without mitogen: Ansible's own strategy and SSH",
        "env": ENV_HELP,
        "json": JSON_HELP,
        "dry_run": "compare, and name what would be sent or removed; changes nothing",
        "yes": YES_HELP,
    },
)
def sync(
    c: Context,
    folder: str,
    on: str = "",
    exclude: str = "",
    remove: bool = False,
    replace: bool = False,
    stock: bool = False,
    env: str = "",
    json: bool = False,
    dry_run: bool = False,
    yes: int = 0,
) -> None:
    """Bring a folder of audio to the origins: only what they lack, verified there, each file whole.

    Interrupt it whenever you like: the same command goes on. A published file keeps its content, unless
    --replace.

    Examples:
        fab media.sync /srv/library --env lab --dry-run
        fab media.sync /srv/library --env lab
    """
    import json as encoder

    from backline.tasks import provision

    fleet = environment(env)
    place = Path(folder).expanduser().resolve()
    if not place.is_dir():
        raise BacklineError(f"there is no folder {place}", state="nothing was changed")
    hosts = _chosen(fleet, on, "media")
    extra: dict[str, Any] = {
        "media_source": str(place),
        "media_purge": remove,
        "media_replace": replace,
    }
    if exclude:
        extra["media_exclude"] = several(exclude, "--exclude")
    view = _view(json, dry_run)
    view.start("media", fleet.name, hosts, dry_run, f"publish {place} on")
    if not dry_run:
        confirm(fleet, len(hosts), yes, json)
    options = ["--tags", "media_publish", "--diff"]
    options += ["-e", encoder.dumps(extra), *["--check"] * dry_run]
    recap, ended = provision.run(fleet, "media", options, stock, view, hosts)
    view.summary(recap, dry_run)
    provision.judge(recap, ended, dry_run, pending=False)


@operation(
    positional=["paths"],
    help={
        "paths": "which files, the first word: below the origins' root, comma-separated, a comma of a name "
        "as `\\,`; album/* means all that begin so, * all",
        "on": "which hosts, an Ansible pattern (default: all streaming hosts)",
        "location": "where nginx serves them from: streaming_media_prefix",
        "timeout": "seconds that each host may look through its cache",
        "env": ENV_HELP,
        "json": JSON_HELP,
        "dry_run": DRY_HELP,
        "yes": YES_HELP,
        "message": MESSAGE_HELP,
    },
)
def purge(
    c: Context,
    paths: str,
    on: str = "",
    location: str = "/_media/",
    timeout: int = 300,
    env: str = "",
    json: bool = False,
    dry_run: bool = False,
    yes: int = 0,
    message: str = "",
) -> None:
    r"""Drop files from the caches of streaming hosts, all slices; they are fetched again when asked for.

    For a file that was replaced, or has to be gone at once: remove it from the origins first.

    Examples:
        fab media.purge album/song.flac --env lab --dry-run
        fab media.purge 'album/*' --env lab --on stream1
        fab media.purge 'live/Hello\, Goodbye.flac' --env lab
    """
    from backline import console
    from backline.operations import cache

    wanted = several(paths, "paths")
    if not wanted or not LOCATION.fullmatch(location) or not 1 <= timeout <= LONGEST:
        raise BacklineError(
            "which files? PATH[,PATH] below the origins' root, such as album/song.flac or album/*",
            state="nothing was changed",
            hint=f"--location begins and ends with /, --timeout is 1 to {LONGEST} s",
        )
    fleet = environment(env)
    hosts = _chosen(fleet, on, "streaming")
    fields = {**new_run("media", message).who, "paths": wanted, "location": location}
    with reach(fleet) as reached:
        if dry_run:
            found = cache.ask(reached, hosts, {**fields, "action": "show"}, timeout)
        else:
            touched = wording.touched(f"drop {paths} on", hosts, fleet.name)
            if asks(fleet, yes, json):
                _sum_up(
                    cache.ask(reached, hosts, {**fields, "action": "show"}, timeout), wanted, True
                )
            confirm(fleet, len(hosts), yes, json, touched=touched)
            fields |= {"action": "purge"}
            found = cache.ask(reached, hosts, fields, timeout, lambda kept: _told(kept, json))
    if json and dry_run:
        for kept in found:
            console.line(kept.as_json("plan"))
    elif not json:
        _sum_up(found, wanted, dry_run)
    cache.judge(found, dropped=not dry_run)


def _chosen(fleet: Environment, on: str, name: str) -> list[str]:
    """The hosts of a group that are meant. Raises BacklineError when that is nobody, or somebody else."""
    from backline import selection

    there = group(fleet, name)
    found = selection.select(fleet, on or name)
    others = [host for host in found if host not in there]
    if others:
        raise BacklineError(
            f"not in the group {name}: {', '.join(others)}",
            hosts=others,
            state="nothing was changed",
            hint=f"--on '{on}:&{name}'",
        )
    return found


def _view(as_json: bool, dry_run: bool) -> Any:
    """Ansible's run as ever, and how many files have been published so far: a library takes hours."""
    from backline.tasks.converging import View

    class Progress(View):
        def take(self, recap: Any, event: dict[str, Any]) -> None:
            said = str(event.get("stdout", "")).strip()
            if event.get("event") == "verbose" and PROGRESS.fullmatch(said):
                self._json("progress", text=said) if as_json else self._say(f"  {said}")
            super().take(recap, event)

    return Progress(as_json, diff=dry_run)


def _told(kept: Kept, as_json: bool) -> None:
    from backline import console

    if as_json:
        console.line(kept.as_json("purged"))
    elif kept.error is None:
        console.console().print(f"  {_words(kept)}", markup=False)


def _sum_up(found: list[Kept], wanted: list[str], dry_run: bool) -> None:
    from backline import console
    from backline.console.words import listed

    good = [kept for kept in found if kept.error is None]
    out = console.console()
    for kept in found if dry_run else ():
        out.print(f"  {_words(kept)}", markup=False)
    files, size = sum(kept.files for kept in good), sum(kept.bytes for kept in good)
    word = "would be dropped" if dry_run else "dropped"
    where = listed(kept.host for kept in good) or "no host"
    out.print(f"{word}: {files} pieces, {size / 1e6:.1f} MB, on {where}", markup=False)
    if good and not files:
        text = f"no piece of {_quoted(wanted)} is in these caches"
        comma = r"; a comma of a name is written \," if len(wanted) > 1 else ""
        out.print(text + comma, style="yellow", markup=False, soft_wrap=True)


def _quoted(wanted: list[str]) -> str:
    """The files as they were read, the first few."""
    more = ", …" if len(wanted) > FEW else ""
    return ", ".join(f"'{path}'" for path in wanted[:FEW]) + more


def _words(kept: Kept) -> str:
    if kept.error is not None:
        return f"{kept.host}: {kept.error}"
    return f"{kept.host}: {kept.files} of {kept.seen} pieces, {kept.bytes / 1e6:.1f} MB"


collection = Collection("media")
for found in (sync, purge):
    collection.add_task(found)
