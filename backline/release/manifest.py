"""backline.toml: what an app says of itself. Errors name the file and the line."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from backline.errors import BacklineError
from backline.release import toml_lines

NAME = "backline.toml"
Kind = Literal["http", "worker", "singleton"]
Word = Annotated[str, Field(min_length=1)]
Command = Annotated[list[Word], Field(min_length=1)]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class Health(_Strict):
    """How hostctl asks a process whether it is well: a request on its socket, or a command."""

    path: str | None = Field(
        default=None,
        pattern=r"^/",
        description="Asked by GET over the release's own socket (http).",
    )
    status: int = Field(default=200, ge=100, le=599, description="The status that means healthy.")
    timeout: float = Field(default=2.0, gt=0, le=60, description="Seconds for one answer.")
    contains: Word | None = Field(
        default=None, description="Text that the first 64 KiB of the answer must contain (http)."
    )
    within: float | None = Field(
        default=None, gt=0, le=60, description="Seconds; a slower answer counts as failed (http)."
    )
    recycles: bool = Field(
        default=False,
        description="True for a web process whose workers end and are replaced by themselves; "
        "else one that ends while the process is watched is a fault (http).",
    )
    command: Command | None = Field(
        default=None, description="Healthy when it ends with 0 (worker, singleton)."
    )

    @model_validator(mode="after")
    def _answers_are_http(self) -> Health:
        if self.command is not None or self.path is None:
            for name in ("contains", "within"):
                if getattr(self, name) is not None:
                    raise ValueError(f"health.{name} is about an answer over HTTP: it needs path")
        return self

    def as_release(self) -> dict[str, Any]:
        """The form in release.json; what was not asked for is left out."""
        if self.command is not None:
            return {"command": self.command, "timeout": self.timeout}
        asked = {"contains": self.contains, "within": self.within}
        return {
            "path": self.path,
            "status": self.status,
            "timeout": self.timeout,
            **{name: value for name, value in asked.items() if value is not None},
            **({"recycles": True} if self.recycles else {}),
        }


class Process(_Strict):
    """One kind of process of the app. `hosts` is an inventory group, `stop_timeout` in seconds."""

    kind: Kind = Field(
        description="`http` serves requests on a Unix socket, `worker` takes jobs, "
        "`singleton` runs once in the fleet."
    )
    hosts: Word = Field(description="The inventory group whose hosts run it.")
    command: Command = Field(
        description="What to run, in the folder of the app, without a shell. `{venv}`, `{app}`, "
        "`{release}`, `{socket}`, `{process}` and the parameters of the host's role are filled in."
    )
    stop_timeout: int = Field(
        default=30, ge=1, le=86400, description="Seconds it may take to finish what it has."
    )
    health: Health | None = Field(
        default=None, description="How to ask whether it is well; an http process needs one."
    )

    @model_validator(mode="after")
    def _health_fits_kind(self) -> Process:
        if self.kind == "http" and (self.health is None or self.health.path is None):
            raise ValueError('an http process needs a health check: health = { path = "/readyz" }')
        if self.kind != "http" and self.health and self.health.path:
            raise ValueError(f"a {self.kind} has no socket to ask: use health.command, not path")
        return self


class Migrations(_Strict):
    """Commands on the database's schema: `expand` before a deploy, `contract` later, by hand."""

    expand: list[Command] = Field(
        default=[],
        description="Run once before the processes are switched; safe while the old release runs.",
    )
    contract: list[Command] = Field(
        default=[], description="Take away what no release needs any more; never run by a deploy."
    )


class Probe(_Strict):
    """What a rollout asks through the edge all along, as listeners do."""

    paths: Annotated[list[Annotated[str, Field(pattern=r"^/[!-~]*$")]], Field(min_length=1)] = (
        Field(
            default=["/"],
            description="Asked in turn by GET, without signing in; 2xx and 3xx are good answers.",
        )
    )


class AppManifest(_Strict):
    """The whole of backline.toml."""

    name: str = Field(
        pattern=r"^[a-z][a-z0-9-]{0,30}$",
        description="The app's name: it becomes /srv/<name>, its user and its units.",
    )
    version: Word | None = Field(
        default=None, description="Shown to people; `--version` of `inv release.build` outranks it."
    )
    python: str = Field(
        pattern=r"^3\.\d{1,2}$", description="The hosts' Python, for which wheels are fetched."
    )
    architecture: Literal["x86_64", "aarch64"] = Field(
        default="x86_64", description="The hosts' processors, for which wheels are fetched."
    )
    requirements: Word = Field(
        default="requirements.lock", description="The lock file: every package with its hashes."
    )
    include: list[Word] = Field(
        default=[], description="Files to pack, as globs; all that git tracks when empty."
    )
    exclude: list[Word] = Field(default=[], description="Files not to pack, as globs.")
    processes: dict[Annotated[str, Field(pattern=r"^[a-z][a-z0-9-]{0,30}$")], Process] = Field(
        min_length=1, description="The app's processes by name, see below."
    )
    migrations: Migrations = Field(
        default=Migrations(), description="Commands on the database's schema, see below."
    )
    probe: Probe = Field(
        default=Probe(), description="What a rollout asks through the edge, see below."
    )


def load(folder: Path) -> AppManifest:
    """The manifest of the app in `folder`.

    Raises BacklineError when there is none, or naming file, line and remedy for everything in it
    that is wrong.
    """
    path = folder / NAME
    try:
        text = path.read_text(encoding="utf-8")
    except (FileNotFoundError, NotADirectoryError):
        what = "there is no folder" if not folder.is_dir() else f"there is no {NAME} in"
        raise BacklineError(
            f"{what} {folder}",
            state="nothing was built",
            hint=f"name the folder that holds the app's {NAME}: inv release.build examples/jukebox",
        ) from None
    except UnicodeDecodeError as error:
        raise _wrong(path, [f"{path}: not UTF-8 at byte {error.start}"]) from None
    try:
        content = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise _wrong(path, [_syntax(path, text, error)]) from None
    try:
        return AppManifest.model_validate(content)
    except ValidationError as error:
        known = toml_lines.lines(text)
        raise _wrong(path, [_line(path, known, entry) for entry in error.errors()]) from None


def _syntax(path: Path, text: str, error: tomllib.TOMLDecodeError) -> str:
    words = str(error)
    _, _, place = words.partition("(at line ")
    number = place.split(",")[0] if place else str(len(text.splitlines()) or 1)
    return f"{path}:{number}: not TOML: {words.partition(' (at')[0]}"


def _line(path: Path, known: dict[tuple[str, ...], int], entry: Any) -> str:
    place = tuple(part for part in entry["loc"] if part != "[key]")
    number = toml_lines.line_of(known, place)
    name = ".".join(str(part) for part in place)
    kind, message = entry["type"], entry["msg"]
    if kind == "extra_forbidden":
        message = f"unknown key {name!r}: remove it, or correct its spelling"
    elif kind == "missing":
        message = f"{name!r} is missing: add it"
    elif kind == "value_error":
        message = f"{name}: {entry['ctx']['error']}"
    else:
        message = f"{name}: {message[0].lower()}{message[1:]}, not {entry['input']!r:.60}"
    return f"{path}:{number}: {message}"


def _wrong(path: Path, problems: list[str]) -> BacklineError:
    return BacklineError(
        "\n".join(problems),
        state="nothing was built",
        hint=f"correct {path}; every key is explained in docs/reference/backline-toml.md",
    )
