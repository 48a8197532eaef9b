"""Building hosts: Ansible's work, started from here."""

from __future__ import annotations

import os
import sys

from invoke.context import Context

from backline.errors import BacklineError, Exit
from backline.tasks.operator import ENV_HELP, ON_HELP, environment, operation

LIMIT_NAMES = 200
MEANING = {
    1: "ansible-playbook ended with an error",
    2: "some hosts failed",
    4: "some hosts could not be reached",
    5: "ansible-playbook found an error in the playbooks",
    250: "ansible-playbook met an error of its own",
}


@operation(
    help={
        "env": ENV_HELP,
        "on": ON_HELP + " (default: every host)",
        "tags": "only tasks with these tags, comma-separated",
        "check": "change nothing, tell what would change",
        "diff": "show what changes in files",
    }
)
def provision(
    c: Context,
    env: str = "",
    on: str = "",
    tags: str = "",
    check: bool = False,
    diff: bool = False,
) -> None:
    """Build hosts, or bring them back to what the roles say: playbooks/site.yml by Ansible."""
    from backline import places, selection
    from backline.tasks.steps import mitogen
    from backline.transport import local

    fleet = environment(env)
    words = [local.tool("ansible-playbook"), "-i", str(fleet.folder), "playbooks/site.yml"]
    if on:
        chosen = selection.select(fleet, on)
        words += ["--limit", ",".join(chosen) if len(chosen) <= LIMIT_NAMES else on]
    words += ["--tags", tags] if tags else []
    words += ["--check"] if check else []
    words += ["--diff"] if diff else []
    path = f"{os.path.dirname(sys.executable)}{os.pathsep}{os.environ.get('PATH', '')}"  # noqa: PTH120
    code = local.attached(words, cwd=places.root(), env={**mitogen(), "PATH": path})
    if code in (99, 130):
        raise BacklineError(
            "interrupted",
            state="hosts keep what was done so far",
            hint="the same command goes on: what is done already changes nothing",
            exit_code=Exit.INTERRUPTED,
        )
    if code:
        raise BacklineError(
            MEANING.get(code, f"ansible-playbook ended with {code}"),
            state="hosts keep what was done so far",
            hint="the recap above names them; the same command goes on where it stopped",
        )
