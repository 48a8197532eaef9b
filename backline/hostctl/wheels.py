"""Install a wheel into a venv, as the wheel specification says, for a path it will have later.

A release is built beside its final place and renamed into it, so scripts must name an
interpreter that is not there yet: pip cannot do that. It is also five times as fast as pip, which
counts when a fleet waits. Wheels were checked against the signed manifest before.
"""

from __future__ import annotations

import base64
import configparser
import csv
import hashlib
import os
import platform
import shutil
import zipfile
from pathlib import Path
from typing import IO, NamedTuple

from .archive import open_new
from .errors import HostctlError

SCRIPT = """#!{python}
import sys
from {module} import {top}
if __name__ == "__main__":
    sys.exit({function}())
"""


class Venv(NamedTuple):
    """A venv under construction at `folder`, which will be at `final` on the host."""

    folder: Path
    final: str
    site_packages: Path

    @property
    def python(self) -> str:
        """The interpreter that the venv's scripts name."""
        return f"{self.final}/bin/python"


def install(wheel: Path, venv: Venv) -> None:
    """Install one wheel. Raises `HostctlError` (bad_wheel)."""
    try:
        with zipfile.ZipFile(wheel) as archive:
            _check_platform(wheel.name)
            names = archive.namelist()
            info = _info_folder(names, wheel.name)
            rows = [_place(archive, name, venv) for name in names if not name.endswith("/")]
            rows += _scripts(archive, info, venv)
    except (zipfile.BadZipFile, configparser.Error, OSError, KeyError, ValueError) as error:
        if isinstance(error, OSError) and not isinstance(error, (FileExistsError, KeyError)):
            raise
        raise _bad(wheel.name, str(error)) from None
    _write_record(venv.site_packages / info, rows)


def _check_platform(name: str) -> None:
    """Refuse a wheel of another processor: it would only fail when it is imported."""
    tags = name[: -len(".whl")].split("-")[-1].split(".")
    machine = platform.machine()
    if not any(tag == "any" or tag.endswith(f"_{machine}") for tag in tags):
        raise _bad(name, f"it is for another kind of machine than this one ({machine})")


def _info_folder(names: list[str], wheel: str) -> str:
    found = {name.split("/")[0] for name in names if name.split("/")[0].endswith(".dist-info")}
    if len(found) != 1:
        raise _bad(wheel, "it has no single .dist-info folder")
    return found.pop()


def _place(archive: zipfile.ZipFile, name: str, venv: Venv) -> tuple[str, str, int]:
    """Unpack one member to where it belongs and return its line for RECORD."""
    parts = name.split("/")
    if any(part in ("", ".", "..") for part in parts) or "\\" in name:
        raise ValueError(f"odd file name {name!r}")
    base, is_script = venv.site_packages, False
    if parts[0].endswith(".data") and len(parts) > 2:
        is_script = parts[1] == "scripts"
        base = {
            "purelib": venv.site_packages,
            "platlib": venv.site_packages,
            "scripts": venv.folder / "bin",
            "data": venv.folder,
            "headers": venv.folder / "include",
        }[parts[1]]
        parts = parts[2:]
    target = base.joinpath(*parts)
    target.parent.mkdir(parents=True, exist_ok=True)
    executable = is_script or bool((archive.getinfo(name).external_attr >> 16) & 0o111)
    with archive.open(name) as reader, open_new(target, 0o755 if executable else 0o644) as writer:
        if is_script:
            writer.write(_shebang(reader, venv.python))
        shutil.copyfileobj(reader, writer, 1024 * 1024)
    return _record_line(target, venv)


def _shebang(reader: IO[bytes], python: str) -> bytes:
    """The first line of a script, with the wheel's `#!python` made real."""
    first = reader.readline()
    return f"#!{python}\n".encode() if first.startswith(b"#!python") else first


def _scripts(archive: zipfile.ZipFile, info: str, venv: Venv) -> list[tuple[str, str, int]]:
    """Write the console and GUI scripts of entry_points.txt."""
    if f"{info}/entry_points.txt" not in archive.namelist():
        return []
    points = configparser.ConfigParser(delimiters=("=",), interpolation=None)
    points.optionxform = str  # type: ignore[assignment,method-assign]
    points.read_string(archive.read(f"{info}/entry_points.txt").decode())
    rows = []
    for section in ("console_scripts", "gui_scripts"):
        for name, point in points[section].items() if points.has_section(section) else ():
            rows.append(_script(name, point, venv))
    return rows


def _script(name: str, point: str, venv: Venv) -> tuple[str, str, int]:
    module, _, function = point.split("[")[0].strip().partition(":")
    dotted = f"{module.strip()}.{function.strip()}"
    if "/" in name or not all(part.isidentifier() for part in dotted.split(".")):
        raise ValueError(f"odd entry point {name!r} = {point!r}")
    text = SCRIPT.format(
        python=venv.python,
        module=module.strip(),
        top=function.strip().split(".")[0],
        function=function.strip(),
    )
    target = venv.folder / "bin" / name
    with open_new(target, 0o755) as writer:
        writer.write(text.encode())
    return _record_line(target, venv)


def _record_line(target: Path, venv: Venv) -> tuple[str, str, int]:
    digest = hashlib.sha256()
    with target.open("rb") as file:
        for chunk in iter(lambda: file.read(1024 * 1024), b""):
            digest.update(chunk)
    encoded = base64.urlsafe_b64encode(digest.digest()).rstrip(b"=").decode()
    relative = os.path.relpath(target, venv.site_packages)
    return relative, f"sha256={encoded}", target.stat().st_size


def _write_record(info: Path, rows: list[tuple[str, str, int]]) -> None:
    (info / "INSTALLER").write_text("hostctl\n")
    with (info / "RECORD").open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        own = f"{info.name}/RECORD"
        writer.writerows(row for row in rows if row[0] != own)
        writer.writerows([(f"{info.name}/INSTALLER", "", ""), (own, "", "")])


def _bad(wheel: str, reason: str) -> HostctlError:
    return HostctlError(
        "bad_wheel",
        f"{wheel} cannot be installed: {reason}",
        "build the release again for this kind of host with `inv release.build`",
    )
