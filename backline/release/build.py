"""Builds a release: all of it appears in dist/ at once, or nothing does."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from backline.errors import BacklineError
from backline.release import manifest as manifests
from backline.release import pack, signing, wheelhouse
from backline.release.collect import Source, collect, content_digest
from backline.release.manifest import AppManifest
from backline.release.model import File, Release, ReleaseProcess
from backline.transport.port import Clock

Say = Callable[[str], None]
BUILDING = ".building-"


@dataclass(frozen=True)
class Built:
    """A finished release and its three files."""

    release: Release
    archive: Path
    document: Path
    signature: Path


def build(
    folder: Path, out: Path, *, key: Path, clock: Clock, say: Say, version: str = ""
) -> Built:
    """Builds the app in `folder` into `out`, signed with `key`; `version` is for people.

    Raises BacklineError for whatever is wrong with the app or this machine. However it ends early,
    `out` is left as it was.
    """
    manifest = manifests.load(folder)
    source = collect(folder, manifest)
    if source.left_out:
        say(f"not in the release, since git does not track them: {_some(source.left_out)}")
    wheels = wheelhouse.fetch(folder, manifest)
    if wheels:
        say(f"{len(list(wheels.glob('*.whl')))} wheels")
    out.mkdir(parents=True, exist_ok=True)
    _sweep(out)
    moment, workplace = _reserve(out, clock)
    try:
        built = _make(manifest, source, wheels, workplace, moment, version, key)
        return _publish(built, out)
    except OSError as error:
        raise BacklineError(
            f"building failed: {error}",
            state=f"nothing was added to {out}",
            hint="is the disk full? `df -h` tells" if error.errno == 28 else "",
        ) from error
    finally:
        shutil.rmtree(workplace, ignore_errors=True)


def release_id(moment: datetime, source: Source) -> str:
    """`20261122T190500Z-1a2b3c4`: UTC and the commit, or the content's digest when they differ."""
    clean = source.commit is not None and not source.dirty
    name = source.commit if clean and source.commit else content_digest(source)
    return f"{moment:%Y%m%dT%H%M%SZ}-{name[:7]}"


def _make(
    manifest: AppManifest,
    source: Source,
    wheels: Path | None,
    workplace: Path,
    moment: datetime,
    version: str,
    key: Path,
) -> Built:
    identity = release_id(moment, source)
    entries = [pack.Entry(source.folder / name, f"app/{name}") for name in source.files]
    if wheels:
        entries += [pack.Entry(path, f"wheelhouse/{path.name}") for path in wheels.glob("*.whl")]
    archive_path = workplace / f"{identity}.tar.zst"
    archive, files = pack.pack(entries, archive_path, source.commit_time)
    release = Release(
        id=identity,
        app=manifest.name,
        version=version or manifest.version or source.described or identity,
        commit=source.commit,
        dirty=source.dirty,
        built_at=f"{moment:%Y-%m-%dT%H:%M:%SZ}",
        python=manifest.python,
        architecture=manifest.architecture,
        requirements=manifest.requirements,
        archive=archive,
        files=_sorted(files),
        processes={
            name: ReleaseProcess(
                kind=process.kind,
                hosts=process.hosts,
                command=process.command,
                stop_timeout=process.stop_timeout,
                health=process.health.as_release() if process.health else None,
            )
            for name, process in manifest.processes.items()
        },
        migrations={
            "expand": manifest.migrations.expand,
            "contract": manifest.migrations.contract,
        },
        probe={"paths": manifest.probe.paths},
    )
    document = workplace / f"{identity}.release.json"
    document.write_text(
        json.dumps(release.model_dump(), indent=1, sort_keys=True) + "\n", encoding="utf-8"
    )
    return Built(release, archive_path, document, signing.sign(document, key))


def _sorted(files: dict[str, File]) -> dict[str, File]:
    return {name: files[name] for name in sorted(files)}


def _reserve(out: Path, clock: Clock) -> tuple[datetime, Path]:
    """A second that no other release has, and a folder to work in that holds it for us."""
    while True:
        now = clock.time()
        moment = datetime.fromtimestamp(int(now), UTC)
        stamp = f"{moment:%Y%m%dT%H%M%SZ}"
        workplace = out / f"{BUILDING}{stamp}"
        if not any(out.glob(f"{stamp}-*")):
            with suppress(FileExistsError):
                workplace.mkdir(mode=0o700)
                (workplace / "pid").write_text(str(os.getpid()))
                return moment, workplace
        clock.sleep(int(now) + 1 - now)


def _publish(built: Built, out: Path) -> Built:
    """Moves the files into `out`; the document last, since it is what makes a release listed."""
    moved: list[Path] = []
    try:
        for path in (built.archive, built.signature, built.document):
            with path.open("rb") as file:
                os.fsync(file.fileno())
            moved.append(path.rename(out / path.name))
    except BaseException:
        for path in moved:
            path.unlink(missing_ok=True)
        raise
    archive, signature, document = moved
    return Built(built.release, archive, document, signature)


def _sweep(out: Path) -> None:
    """Removes the workplaces of builds that were killed."""
    for workplace in out.glob(f"{BUILDING}*"):
        try:
            os.kill(int((workplace / "pid").read_text()), 0)
        except (ProcessLookupError, ValueError, OverflowError):
            shutil.rmtree(workplace, ignore_errors=True)
        except OSError:
            continue  # alive, of another user, or just being made


def _some(names: tuple[str, ...], count: int = 5) -> str:
    more = f" and {len(names) - count} more" if len(names) > count else ""
    return ", ".join(names[:count]) + more
