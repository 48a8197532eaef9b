"""`hostctl fetch`: a host pulls a release from an HTTP or S3 store into its folder of uploads.

What is fetched is as untrusted as what is uploaded: `stage` verifies it. All of it is done by the
owner of the folder of uploads, never by root. URLs may carry secrets (presigned ones do): they go
to curl on its stdin, and nowhere else.
"""

from __future__ import annotations

import os
import re
import stat
from pathlib import Path
from typing import NamedTuple

from . import files, receive, record, settings
from .errors import HostctlError, UsageError
from .host import PLAIN_ENVIRONMENT, Completed, Host
from .names import RELEASE, Request

DEADLINE = 1800.0
SIZE_LIMIT = 2**40
URL_LIMIT = 8000
URL = re.compile(r"https?://[^\s\"\\\x00-\x1f\x7f-\U0010ffff]+")
PATCH = re.compile(rf"({RELEASE.pattern})\.from-{RELEASE.pattern}\.patch\.zst")
SECRETS = re.compile(r"(?<=//)[^/@\s]*@|\?\S*|#\S*")
CANNOT_RESUME = (22, 33, 36)  # refused (416 among others), no ranges here, cannot go on


class Wanted(NamedTuple):
    """One file to fetch: its place in the folder of uploads, its address, its size in bytes."""

    path: Path
    url: str
    size: int

    @property
    def partial(self) -> Path:
        """Where it grows; what is there is gone on with."""
        return self.path.with_name(f".{self.path.name}.part")


def fetch(host: Host, request: Request) -> dict[str, object]:
    """The verb `fetch`. Returns {fetched (bytes), already (names)}.

    Raises `HostctlError` (fetch_failed, disk_full): what came stays, the next try goes on there.
    """
    app, release = settings.app(host, request.app()), request.release()
    deadline = request.seconds("deadline", DEADLINE, minimum=1, maximum=86400)
    wanted = _wanted(host, request)
    with files.locked(host, host.state(app.name) / "stage.lock", wait=2):
        with record.fenced(host, request):
            staged = settings.release_folder(host, app, release).exists()
            there = [file for file in wanted if staged or _size(file.path) == file.size]
            missing = [file for file in wanted if file not in there]
            if missing:
                named = [{"url": without_secrets(f.url), "size": f.size} for f in missing]
                record.change(host, request, "begin", release=release, files=named)
        try:
            fetched = _fetch_all(host, missing, deadline) if missing else 0
        except HostctlError as error:
            record.outcome(host, request, "failed", release=release, error=error.code)
            raise
        if missing:
            record.outcome(host, request, "done", release=release, bytes=fetched)
    return {"fetched": fetched, "already": [file.path.name for file in there]}


def _wanted(host: Host, request: Request) -> list[Wanted]:
    """The files of the request; their names must be ones that `stage` will look for."""
    paths = {path.name: path for path in receive.uploaded(host, request).values()}
    folder = next(iter(paths.values())).parent
    listed = request.fields.get("files")
    if not isinstance(listed, list) or not listed or not all(map(_is_description, listed)):
        raise UsageError("bad_field", "fetch: files must be a list of {name, url, size}")
    if not request.has("base"):  # a patch says by its name as well which base it needs
        names = [entry["name"] for entry in listed if _is_patch(entry["name"], request.release())]
        paths.update({name: folder / name for name in names})
    found = []
    for entry in listed:
        if not isinstance(entry["name"], str) or entry["name"] not in paths:
            expected = ", ".join(paths)
            raise UsageError("bad_field", f"fetch: a name must be one, once, of {expected}")
        part = Request(request.verb, entry)
        size = part.integer("size", minimum=1, maximum=SIZE_LIMIT)
        found.append(Wanted(paths.pop(entry["name"]), _url(entry["url"]), size))
    return found


def _is_description(entry: object) -> bool:
    return isinstance(entry, dict) and set(entry) == {"name", "url", "size"}


def _is_patch(name: object, release: str) -> bool:
    found = PATCH.fullmatch(name) if isinstance(name, str) else None
    return found is not None and found[1] == release


def _url(value: object) -> str:
    if not isinstance(value, str) or len(value) > URL_LIMIT or not URL.fullmatch(value):
        raise UsageError("bad_field", "fetch: url must be a plain http(s) address")
    return value


def without_secrets(text: str) -> str:
    """A URL, or words with URLs in them, without user, password, query and fragment."""
    return SECRETS.sub("", text)


def _size(path: Path) -> int:
    """The size of a plain file; -1 when there is none."""
    try:
        found = path.lstat()
    except OSError:
        return -1
    return found.st_size if stat.S_ISREG(found.st_mode) else -1


def _fetch_all(host: Host, missing: list[Wanted], deadline: float) -> int:
    """Fetch file after file. Returns how many bytes came."""
    folder, came = missing[0].path.parent, 0
    end = host.boottime() + deadline
    _check_room(folder, sum(file.size for file in missing))
    for file in missing:
        before = max(0, _size(file.partial))
        _fetch(host, file, _owner(host, folder), end)
        came += max(0, file.size - before)
    return came


def _owner(host: Host, folder: Path) -> int | None:
    """The user that downloads, who must not be root; None where no user can be changed."""
    owner = folder.stat().st_uid
    if host.become and owner == 0:
        raise HostctlError(
            "bad_settings",
            f"{folder} belongs to root, and root downloads nothing",
            "run the playbook with the role hostctl again",
        )
    return owner if host.become else None


def _check_room(folder: Path, needed: int) -> None:
    room = os.statvfs(folder)
    free = room.f_bavail * room.f_frsize
    if free < needed + receive.SPARE_BYTES:
        raise HostctlError(
            "disk_full",
            f"{folder} has {free >> 20} MiB free and {needed >> 20} MiB are to come; "
            "nothing was fetched",
            "make room (hostctl prune, journalctl --vacuum-size=…), then try again",
        )


def _fetch(host: Host, file: Wanted, owner: int | None, end: float) -> None:
    """Fetch one file, going on where an earlier try ended, and give it its name."""
    if _size(file.partial) < file.size:
        ended = _curl(host, file, owner, end)
        if ended.status in CANNOT_RESUME and _size(file.partial) > 0:
            _as_owner(host, ["rm", "-f", "--", str(file.partial)], owner)
            ended = _curl(host, file, owner, end)
        if ended.status != 0:
            raise _failed(file, ended)
    if _size(file.partial) != file.size:
        found = _size(file.partial)
        _as_owner(host, ["rm", "-f", "--", str(file.partial)], owner)
        raise _failed(file, Completed(0, "", f"it has {found} bytes, not {file.size}"))
    _as_owner(host, ["mv", "-f", "-T", "--", str(file.partial), str(file.path)], owner)


def _curl(host: Host, file: Wanted, owner: int | None, end: float) -> Completed:
    """One try. The kernel ends it when more comes than was announced: not every server says."""
    seconds = max(1.0, end - host.boottime())
    argv = ["prlimit", f"--fsize={file.size}", "curl", "--disable", "--silent", "--show-error"]
    argv += ["--fail", "--globoff", "--location", "--max-redirs", "3"]
    argv += ["--proto", "=http,https", "--proto-redir", "=http,https"]
    argv += ["--connect-timeout", "10", "--max-time", f"{seconds:.0f}"]
    argv += ["--max-filesize", str(file.size), "--continue-at", "-"]
    argv += ["--output", str(file.partial), "--config", "-"]
    config = f'url = "{file.url}"\n'.encode()
    return _as_owner(host, argv, owner, stdin=config, timeout=seconds + 15)


def _as_owner(
    host: Host, argv: list[str], owner: int | None, stdin: bytes = b"", timeout: float = 30
) -> Completed:
    group = None if owner is None else owner_group(owner)
    return host.run(
        argv, timeout=timeout, stdin=stdin, env=PLAIN_ENVIRONMENT, user=owner, group=group
    )


def owner_group(owner: int) -> int:
    """The primary group of a user."""
    import pwd

    return pwd.getpwuid(owner).pw_gid


def _failed(file: Wanted, ended: Completed) -> HostctlError:
    said = without_secrets(" ".join((ended.err or ended.out).split()))[:300]
    if ended.status is None:
        said = "it took too long"
    elif ended.status < 0:
        said = f"more than the announced {file.size} bytes came"
    elif ended.status == 127:
        said = f"{said} (apt-get install curl)"
    return HostctlError(
        "fetch_failed",
        f"cannot fetch {file.path.name} from {without_secrets(file.url)}: {said}; "
        "nothing was changed, what came is kept",
        "try again: it goes on where it ended; or send the release by SSH",
    )
