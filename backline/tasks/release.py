"""Releases: built here, deployed by `fab deploy`."""

from __future__ import annotations

import sys
import time
from pathlib import Path

from invoke.collection import Collection
from invoke.context import Context

from backline.errors import BacklineError
from backline.tasks.command import command, say


@command(
    positional=["app"],
    help={
        "app": "the app's folder, which holds its backline.toml",
        "version": "what people call it (default: from backline.toml, or `git describe`)",
        "key": "the SSH key to sign with (default: $BACKLINE_SIGNING_KEY, or .lab/signing_key)",
        "out": "where to put it (default: dist/)",
        "json": "print a JSON object instead of the bare ID",
    },
)
def build(
    c: Context,
    app: str,
    version: str = "",
    key: str = "",
    out: str = "",
    json: bool = False,
) -> None:
    """Pack an app, its wheels and its manifest, and sign them; prints the release's ID."""
    from backline import console, places
    from backline.release import build as builder
    from backline.release import signing
    from backline.transport.clock import SystemClock

    started = time.monotonic()
    signer, made = signing.signing_key(key)
    if made:
        say(f"made a signing key: {signer}; hosts must trust {signing.signer_line(signer)}")
    target = Path(out) if out else places.dist()
    built = builder.build(
        Path(app), target, key=signer, clock=SystemClock(), say=say, version=version
    )
    release, archive = built.release, built.release.archive
    say(
        f"{release.app} {release.version}: {len(release.files)} files, "
        f"{archive.zst_size / 1e6:.1f} MB ({time.monotonic() - started:.1f} s)"
    )
    if not json:
        print(release.id)
        return
    console.line(
        {
            "schema_version": 1,
            "id": release.id,
            "app": release.app,
            "version": release.version,
            "commit": release.commit,
            "dirty": release.dirty,
            "archive": str(built.archive),
            "size": archive.zst_size,
        }
    )


@command(
    positional=["release"],
    help={
        "release": "its ID, or `latest`",
        "signers": "an allowed_signers file (default: the public half of the signing key)",
        "out": "where it lies (default: dist/)",
    },
)
def verify(c: Context, release: str = "latest", signers: str = "", out: str = "") -> None:
    """Check a release's signature and digest, as every host does before it unpacks anything."""
    from backline import places
    from backline.release import signing, store

    stored = store.load(Path(out) if out else places.dist(), release)
    if signers:
        try:
            lines = Path(signers).read_text(encoding="utf-8").splitlines()
        except OSError as error:
            raise BacklineError(f"cannot read {signers}: {error.strerror}") from None
    else:
        key, _ = signing.signing_key()
        lines = [signing.signer_line(key)]
    store.verify(stored, lines)
    say(f"signature and digest are good: {stored.release.app} {stored.release.version}")
    print(stored.release.id)


@command(
    name="list",
    help={"json": "one JSON object per release", "out": "where to look (default: dist/)"},
)
def list_(c: Context, json: bool = False, out: str = "") -> None:
    """Show the releases that were built here, newest first."""
    from backline import console, places
    from backline.release import store

    folder = Path(out) if out else places.dist()
    found, rows = store.ids(folder), []
    for identity in reversed(found):
        try:
            release = store.load(folder, identity).release
        except BacklineError as error:
            print(f"{identity}  damaged: {error.message}", file=sys.stderr)
            continue
        if json:
            keep = {"id", "app", "version", "commit", "dirty", "built_at"}
            console.line({"schema_version": 1, **release.model_dump(include=keep)})
        else:
            size = release.archive.zst_size / 1e6
            rows.append(f"{release.id}  {release.app:12} {release.version:16.16} {size:8.1f} MB")
    print(*rows, sep="\n", end="\n" if rows else "", flush=True)
    if not found:
        say(f"none in {folder}/; build one: inv release.build examples/jukebox")


collection = Collection("release", build, verify, list_)
