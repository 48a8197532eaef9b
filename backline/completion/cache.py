"""Brings up to date what completion knows: `python -m backline.completion.cache [ENV]`.

Without ENV the tasks and their flags; with it, the hosts and groups of that environment.
"""

from __future__ import annotations

import importlib
import inspect
import json
import os
import sys
from pathlib import Path
from typing import Any

from backline.completion.answer import FORMAT, TASKS
from backline.places import CHECKOUT


def tasks() -> dict[str, Any]:
    """Every task that `fab` knows, also by the short name of a collection's default."""
    namespace = importlib.import_module("fabfile").namespace
    found = {}
    for name, aliases in namespace.task_names.items():
        task = namespace[name]
        for known in (name, *aliases):
            found[known] = _task(task)
    return dict(sorted(found.items()))


def _task(task: Any) -> dict[str, Any]:
    parameters = list(inspect.signature(task.body).parameters.values())[1:]
    return {
        "help": (task.__doc__ or "").strip().partition("\n")[0],
        "positional": [name.replace("_", "-") for name in task.positional or ()],
        "flags": {
            f"--{parameter.name.replace('_', '-')}": {
                "value": not isinstance(parameter.default, bool),
                "help": task.flag_help.get(parameter.name, ""),
                "choices": list(task.flag_choices.get(parameter.name, ())),
            }
            for parameter in parameters
        },
    }


def write() -> Path:
    """Writes what the tasks are into the checkout's cache; returns the file."""
    folder = CHECKOUT / ".cache"
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    path = folder / TASKS
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    partial.write_text(json.dumps({"format": FORMAT, "tasks": tasks()}), encoding="utf-8")
    partial.replace(path)
    return path


def main(arguments: list[str]) -> int:
    """Does what the module says; an inventory that cannot be read is told of when a task needs it."""
    if not arguments:
        write()
        return 0
    from backline import inventory
    from backline.errors import BacklineError

    try:
        inventory.load(arguments[0])
    except BacklineError:
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
