"""`hostctl mark` and `hostctl prune`: what was thought of a release, and which ones may go."""

from __future__ import annotations

import contextlib
from pathlib import Path

from . import files, record, settings, state, units
from .host import Host
from .names import RELEASE, Request
from .rest import Rest
from .settings import App

UPLOAD_LIFETIME = 24 * 3600.0


def mark(host: Host, request: Request) -> dict[str, object]:
    """The verb `mark`. Returns {release, state, already}. `staged` takes back what was said before."""
    app, release = settings.app(host, request.app()), request.release()
    verdict = request.choice("state", ("good", "bad", "staged", "contracted"))
    if verdict == "contracted":
        return _mark_contracted(host, request, release)
    settings.manifest(host, app, release)
    with record.fenced(host, request):
        known = state.load(host, app.name)
        good_last = bool(known["good"]) and known["good"][-1] == release
        marked = known["releases"].get(release, {}).get("state") == verdict
        if marked and (verdict != "good" or good_last):
            return {"release": release, "state": verdict, "already": True}
        record.change(host, request, "done", release=release, state=verdict)
        known["releases"][release] = {"state": verdict}
        known["good"] = [entry for entry in known["good"] if entry != release]
        if verdict == "good":
            known["good"].append(release)
        state.save(host, app.name, known)
    return {"release": release, "state": verdict, "already": False}


def _mark_contracted(host: Host, request: Request, release: str) -> dict[str, object]:
    """Remember that a release's contract migration ran: a fact of the database, not of this host.

    So the release need not be here, and the mark stays when it goes.
    """
    with record.fenced(host, request):
        known = state.load(host, request.app())
        already = release in known["contracted"]
        if not already:
            record.change(host, request, "done", release=release, state="contracted")
            known["contracted"].append(release)
            state.save(host, request.app(), known)
    return {"release": release, "state": "contracted", "already": already}


def prune(host: Host, request: Request) -> dict[str, object]:
    """The verb `prune`: keep `keep` releases in all, and every one that is still needed.

    Returns {removed, kept, protected}. Live, warm and enabled releases, the one before the live
    one (unless it is bad) and the last good one stay, however many they are.
    """
    app = settings.app(host, request.app())
    keep = request.integer("keep", 3, minimum=1, maximum=1000)
    with files.locked(host, host.state(app.name) / "stage.lock", wait=2):
        with record.fenced(host, request):
            staged = settings.releases(host, app)
            known = state.load(host, app.name)
            for release in set(known["releases"]) - set(staged):  # a prune was killed half-way
                _forget(known, release)
            needed = protected(host, app, known) & set(staged)
            doomed = choose(staged, known, needed, keep)
            for release in doomed:
                _throw_away(host, request, app, known, release)
        host.yield_cpu()
        releases, rest = host.path(f"{app.root}/releases"), Rest(host)
        for trash in releases.glob(files.TRASH):
            files.remove_gently(trash, rest)
        files.clean_leftovers(releases)
    _clean_uploads(host, set(staged))
    kept = [release for release in staged if release not in doomed]
    return {"removed": doomed, "kept": kept, "protected": sorted(needed)}


def choose(staged: list[str], known: state.State, needed: set[str], keep: int) -> list[str]:
    """Which releases go: bad ones first, then in the order they were staged. Pure."""
    order = {release: number for number, release in enumerate(known["releases"])}

    def rank(release: str) -> tuple[bool, int]:
        good_enough = known["releases"].get(release, {}).get("state") != "bad"
        return good_enough, order.get(release, -1)

    candidates = sorted((entry for entry in staged if entry not in needed), key=rank)
    return candidates[: max(0, len(staged) - keep)]


def protected(host: Host, app: App, known: state.State) -> set[str]:
    """The releases that something still needs."""
    live = state.live_releases(known)
    needed = set(live)
    before = {entry["previous"] for entry in known["live"].values() if entry["previous"]}
    bad = {name for name, entry in known["releases"].items() if entry["state"] == "bad"}
    needed.update(before - bad)
    needed.update([entry for entry in known["good"] if entry not in live][-1:])
    current = files.link_target(host.path(f"{app.root}/current"))
    needed.add(Path(current or "").name)
    for name in settings.process_names(host, app.name):
        process = settings.process(host, app.name, name)
        needed.update(
            found.release for found in units.instances(host, process) if not found.stopped
        )
        for unit in units.enabled_units(host, process):
            needed.add(unit.rpartition("@")[2].removesuffix(".service"))
    return needed


def _throw_away(host: Host, request: Request, app: App, known: state.State, release: str) -> None:
    """Forget a release and rename it out of sight; it is removed later, without the lock."""
    folder = settings.release_folder(host, app, release)
    record.change(host, request, "begin", release=release)
    files.rename(folder, folder.with_name(f".{release}.trash"))
    _forget(known, release)
    state.save(host, app.name, known)
    record.change(host, request, "done", release=release)


def _forget(known: state.State, release: str) -> None:
    for part in ("releases", "migrated"):
        known[part].pop(release, None)
    known["good"] = [entry for entry in known["good"] if entry != release]


def _clean_uploads(host: Host, staged: set[str]) -> None:
    """Remove uploads that are staged, or that nobody came back for within a day."""
    for upload in host.incoming.glob("*"):
        release = RELEASE.match(upload.name.lstrip("."))  # a dot: half fetched
        with contextlib.suppress(OSError):
            age = host.wall() - upload.lstat().st_mtime
            if release and (release[0] in staged or age > UPLOAD_LIFETIME):
                upload.unlink()
