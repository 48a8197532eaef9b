"""`hostctl migrate`: the release's own commands that change the database, once per phase."""

from __future__ import annotations

from . import commands, files, record, settings, state
from .errors import HostctlError
from .host import Completed, Host
from .names import Request
from .settings import App, Manifest, Process

DEADLINE = 900.0
TAIL = 3000


def migrate(host: Host, request: Request) -> dict[str, object]:
    """The verb `migrate`. Returns {phase, ran, already, output}.

    Raises `HostctlError` (migration_failed): the commands before the failing one have run, and
    the next try runs all of them again.
    """
    app, release = settings.app(host, request.app()), request.release()
    phase = request.choice("phase", ("expand", "contract"))
    deadline = request.seconds("deadline", DEADLINE, minimum=1, maximum=86400)
    manifest = settings.manifest(host, app, release)
    what = {"release": release, "phase": phase}
    with files.locked(host, host.state(app.name) / "migrate.lock", wait=2):
        with record.fenced(host, request):
            if phase in state.load(host, app.name)["migrated"].get(release, []):
                return {"phase": phase, "ran": 0, "already": True, "output": ""}
            record.change(host, request, "begin", **what)
        try:
            ran, output = _run_all(host, app, manifest, phase, deadline)
        except HostctlError as error:
            record.outcome(host, request, "failed", error=error.code, **what)
            raise
        with record.lock(host, app.name):  # it has run, whoever holds the lease by now
            known = state.load(host, app.name)
            known["migrated"].setdefault(release, []).append(phase)
            state.save(host, app.name, known)
            record.change(host, request, "done", **what)
    return {"phase": phase, "ran": ran, "already": False, "output": output}


def _run_all(
    host: Host, app: App, manifest: Manifest, phase: str, deadline: float
) -> tuple[int, str]:
    listed = (manifest.get("migrations") or {}).get(phase) or []
    values = settings.placeholders(
        host, app, Process("migrate", "migrate", "worker", "", {}), str(manifest["id"])
    )
    end, output = host.boottime() + deadline, ""
    for number, command in enumerate(listed, start=1):
        argv = settings.fill(command, values)
        left = max(0.1, end - host.boottime())
        ended = commands.run(host, app, manifest, argv, left)
        output = (output + ended.out + ended.err)[-TAIL:]
        if ended.status != 0:
            raise _failed(ended, phase, number, len(listed), argv, output)
    return len(listed), output


def _failed(
    ended: Completed, phase: str, number: int, count: int, argv: list[str], output: str
) -> HostctlError:
    how = "was killed at its deadline" if ended.status is None else f"exited with {ended.status}"
    return HostctlError(
        "migration_failed",
        f"{phase} migration {number} of {count} ({' '.join(argv[:4])}) {how}; "
        "the live release was not touched",
        f"its output ends: {output.strip() or '(empty)'}",
        output=output,
    )
