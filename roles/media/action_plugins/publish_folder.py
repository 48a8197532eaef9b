"""The controller's half of publish_folder: sends what the host lacks, many files at once.

The host's half, library/publish_folder.py, documents the options.
"""

from __future__ import annotations

import hashlib
import os
import tarfile
import tempfile
from collections.abc import Iterator
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from ansible.errors import AnsibleActionFail
from ansible.plugins.action import ActionBase

BATCH = 256 * 1024 * 1024  # bytes of files per transfer; one larger file is a batch of its own

Stamp = tuple[int, int]  # size in bytes, time of change in whole seconds


def scan(folder: Path, exclude: list[str]) -> dict[str, Stamp]:
    """The regular files under a folder, by their path in it, without hidden and excluded ones."""
    found: dict[str, Stamp] = {}
    for place, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(names):
            path = Path(place, name)
            relative = path.relative_to(folder).as_posix()
            if name.startswith(".") or any(fnmatch(relative, pattern) for pattern in exclude):
                continue
            if path.is_file():
                status = path.stat()
                found[relative] = (status.st_size, int(status.st_mtime))
    return found


def batches(names: list[str], files: dict[str, Stamp], limit: int = BATCH) -> Iterator[list[str]]:
    """Splits names into runs of at most `limit` bytes, a larger file alone."""
    batch: list[str] = []
    size = 0
    for name in names:
        if batch and size + files[name][0] > limit:
            yield batch
            batch, size = [], 0
        batch.append(name)
        size += files[name][0]
    if batch:
        yield batch


def pack(folder: Path, names: list[str], archive: str) -> dict[str, str]:
    """Writes a tar of the named files; returns the SHA-256 of each, hex."""
    digests = {}
    with tarfile.open(archive, "w", format=tarfile.PAX_FORMAT) as tar:
        for name in names:
            tar.add(folder / name, arcname=name, recursive=False)
            with (folder / name).open("rb") as file:
                digests[name] = hashlib.file_digest(file, "sha256").hexdigest()
    return digests


def checksums(folder: Path, names: list[str]) -> dict[str, str]:
    """The SHA-256 of the named files, hex."""
    digests = {}
    for name in names:
        with (folder / name).open("rb") as file:
            digests[name] = hashlib.file_digest(file, "sha256").hexdigest()
    return digests


class ActionModule(ActionBase):  # type: ignore[misc]
    """Publishes a folder of the controller on the host."""

    TRANSFERS_FILES = True

    def run(
        self, tmp: str | None = None, task_vars: dict[str, Any] | None = None
    ) -> dict[str, Any]:
        """Compares, sends what is missing, removes what is unwanted. Errors: the host's own."""
        super().run(tmp, task_vars)
        _, options = self.validate_argument_spec(
            {
                "src": {"type": "str", "required": True},
                "dest": {"type": "path", "required": True},
                "exclude": {"type": "list", "elements": "str", "default": []},
                "purge": {"type": "bool", "default": False},
                "replace": {"type": "bool", "default": False},
            }
        )
        folder = Path(self._loader.path_dwim(options["src"]))
        if not folder.is_dir():
            raise AnsibleActionFail(
                f"{folder} is not a folder of the controller. Nothing was published; "
                "what the host already has is served as before."
            )
        files = scan(folder, options["exclude"])
        host: dict[str, Any] = {"dest": options["dest"], "purge": options["purge"]}
        found = self._on_host({**host, "step": "compare", "files": files}, task_vars)
        same = self._same(folder, files, found["doubtful"], host, task_vars)
        replaced = [name for name in found["other"] + found["doubtful"] if name not in same]
        if replaced and not options["replace"]:
            raise AnsibleActionFail(
                f"the host has other content under {', '.join(replaced[:5])}"
                f"{' and others' if len(replaced) > 5 else ''}. Caches and players hold pieces of it, "
                "so publish the new content under a new name, or set media_replace for this run. "
                "Nothing was sent; what the host has is served as before."
            )
        missing, unwanted = sorted(found["missing"] + replaced), found["unwanted"]
        if not self._task.check_mode:
            self._send_all(folder, missing, files, host, task_vars)
            if unwanted:
                self._on_host({**host, "step": "remove", "names": unwanted}, task_vars)
        return {
            "changed": bool(missing or unwanted or same),
            "published": missing,
            "removed": unwanted,
            "confirmed": same,
            "diff": {
                "before": "".join(f"{name}\n" for name in unwanted),
                "after": "".join(f"{name}\n" for name in missing),
            },
        }

    def _same(
        self,
        folder: Path,
        files: dict[str, Stamp],
        doubtful: list[str],
        host: dict[str, Any],
        task_vars: dict[str, Any] | None,
    ) -> list[str]:
        """Those of the doubtful files that hold the same bytes on the host."""
        if not doubtful:
            return []
        stamps = {name: files[name] for name in doubtful}
        digests = checksums(folder, doubtful)
        asked = {**host, "step": "confirm", "files": stamps, "digests": digests}
        same: list[str] = self._on_host(asked, task_vars)["same"]
        return same

    def _send_all(
        self,
        folder: Path,
        names: list[str],
        files: dict[str, Stamp],
        host: dict[str, Any],
        task_vars: dict[str, Any] | None,
    ) -> None:
        """Sends batch after batch, and says how far it is: a library may take hours."""
        total, sent, count = sum(files[name][0] for name in names), 0, 0
        for batch in batches(names, files):
            self._send(folder, batch, host, task_vars)
            sent, count = sent + sum(files[name][0] for name in batch), count + len(batch)
            where = (task_vars or {}).get("inventory_hostname", "host")
            self._display.display(
                f"{where}: {count} of {len(names)} files published, "
                f"{sent >> 20} of {total >> 20} MiB"
            )

    def _send(
        self, folder: Path, names: list[str], host: dict[str, Any], task_vars: dict[str, Any] | None
    ) -> None:
        remote = self._connection._shell.join_path(self._connection._shell.tmpdir, "files.tar")
        with tempfile.NamedTemporaryFile(suffix=".tar") as archive:
            digests = pack(folder, names, archive.name)
            self._transfer_file(archive.name, remote)
        self._on_host({**host, "step": "unpack", "archive": remote, "digests": digests}, task_vars)

    def _on_host(self, options: dict[str, Any], task_vars: dict[str, Any] | None) -> dict[str, Any]:
        answer: dict[str, Any] = self._execute_module(
            module_name="publish_folder", module_args=options, task_vars=task_vars
        )
        if answer.get("failed"):
            raise AnsibleActionFail(answer.get("msg", "the host gave no reason"), result=answer)
        return answer
