"""What a shell runs on TAB: `python -IS answer.py SHELL LINE`, LINE up to the cursor.

Prints what the last word can become, one per line, described for zsh and fish in their own ways.
It is started for every TAB, so it imports little, and nothing of ours: what it knows of tasks and
hosts are files in .cache/, which `cache.py` brings up to date in the background.
"""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

OWN_ROOT = Path(__file__).resolve().parents[2]
TASKS = "completion.json"
FORMAT = 2
TRY_EVERY = 60.0
"""Seconds before an inventory that could not be read is tried again."""
RECENT = 5
"""Releases of dist/ that are looked into."""
RELEASE = re.compile(r"[0-9]{8}T[0-9]{6}Z-[0-9a-f]{7}")
BREAKS = "\"'><=;|&(:@"
"""Bash replaces only what follows the last of these (COMP_WORDBREAKS), outside of quotes."""
CORE = {
    "--help": True,
    "--hosts": True,
    "--list": False,
    "--version": False,
}
"""Flags of fab itself that make sense here, and whether a value follows. -H is --hosts, -h --help."""
SHORT = {"-H": "--hosts", "-h": "--help", "-l": "--list", "-V": "--version"}

Found = Iterator[tuple[str, str]]


class Line(NamedTuple):
    """A command line up to the cursor: the words before the last one, the last one, its open quote."""

    words: list[str]
    last: str
    quote: str


class Place(NamedTuple):
    """Where things are: the checkout, and the root that the tests move ($BACKLINE_ROOT)."""

    checkout: Path
    root: Path


def main(arguments: list[str]) -> int:
    """Prints the candidates. Whatever goes wrong, a shell must not show it amid the command line."""
    shell, text = arguments
    line = split(text)
    place = find()
    shown = []
    for word, told in candidates(line, place):
        if word.startswith(line.last):
            shown.append(_for_shell(shell, line, word, told))
    sys.stdout.write("".join(f"{entry}\n" for entry in dict.fromkeys(shown)))
    return 0


def _for_shell(shell: str, line: Line, word: str, told: str) -> str:
    if shell == "fish":
        return f"{word}\t{told}" if told else word
    if shell == "zsh":  # as its _describe wants it
        word = re.sub(r"([\\:])", r"\\\1", word)
        return f"{word}:{told}" if told else word
    if line.quote:
        return word
    return word[max(line.last.rfind(char) for char in BREAKS) + 1 :]


def split(text: str) -> Line:
    """The words of the last command on a line, as a shell would split them."""
    words: list[str] = []
    word: list[str] | None = None
    quote, escaped = "", False
    for char in text:
        if escaped:
            word, escaped = [*(word or []), char], False
        elif char == "\\" and quote != "'":
            word, escaped = word or [], True
        elif quote:
            if char == quote:
                quote = ""
            else:
                word = [*(word or []), char]
        elif char in "'\"":
            word, quote = word or [], char
        elif char in " \t\n":
            if word is not None:
                words.append("".join(word))
            word = None
        elif char in ";|&" and word is None:
            words = []
        else:
            word = [*(word or []), char]
    return Line(words, "".join(word or []), quote)


def find() -> Place:
    """The checkout that `fab` would use from here; ours, where that is no checkout of Backline."""
    here = Path.cwd()
    mine = Path(__file__).resolve().relative_to(OWN_ROOT)
    above = (
        folder
        for folder in (here, *here.parents)
        if (folder / "fabfile.py").is_file() and (folder / mine).is_file()
    )
    checkout = next(above, OWN_ROOT)
    return Place(checkout, Path(os.environ.get("BACKLINE_ROOT") or checkout))


def candidates(line: Line, place: Place) -> Found:
    """What the last word may become, with a description each; those that do not fit are filtered later."""
    tasks = known_tasks(place)
    task, flag, used, env = _where(line.words[1:], tasks)
    if line.last.startswith("--") and "=" in line.last:
        flag = line.last.partition("=")[0]
        head = f"{flag}="
        inner = line._replace(last=line.last[len(head) :])
        for word, told in values(task, flag, inner.last, env, place, tasks):
            yield head + word, told
    elif flag:
        yield from values(task, flag, line.last, env, place, tasks)
    elif task:
        word = _word(tasks[task], used)
        if word and not line.last.startswith("-"):
            yield from values(task, word, line.last, env, place, tasks)
        for name, entry in tasks[task]["flags"].items():
            if name not in used:
                yield name, entry["help"]
    elif line.last.startswith("-"):
        for name in CORE:
            yield name, ""
    else:
        yield from _tasks(tasks)


def _word(task: dict[str, Any], used: set[str]) -> str:
    """The first word of a task that is still to come, as a flag; empty when it takes none, or has it."""
    names = (f"--{name}" for name in task["positional"])
    return next((name for name in names if name not in used), "")


def _where(words: list[str], tasks: dict[str, Any]) -> tuple[str, str, set[str], str]:
    """The task that the cursor is in, the flag that waits for its value, the flags that task has, --env.

    A word of the task counts as the flag that says the same.
    """
    task = flag = env = ""
    used: set[str] = set()
    for word in words:
        if flag:
            env = word if flag == "--env" else env
            flag = ""
        elif word.startswith("-"):
            name, equals, value = word.partition("=")
            name = SHORT.get(name, name)
            used.add(name)
            env = value if name == "--env" and equals else env
            own = tasks[task]["flags"].get(name) if task else None
            # Behind a task --help is its own, and takes nothing.
            core = CORE.get(name) if not task or name != "--help" else None
            takes = own["value"] if own else core
            flag = name if takes and not equals else ""
        elif task and _word(tasks[task], used):
            used.add(_word(tasks[task], used))
        elif word in tasks:
            task, used = word, set()
    return task, flag, used, env


def _tasks(tasks: dict[str, Any]) -> Found:
    for name, entry in tasks.items():
        yield name, entry["help"]


def values(task: str, flag: str, last: str, env: str, place: Place, tasks: dict[str, Any]) -> Found:
    """What may follow a flag; nothing when we cannot know."""
    env = env or os.environ.get("BACKLINE_ENV", "")
    known = tasks[task]["flags"].get(flag, {}) if task else {}
    choices = known.get("choices")
    latest = ["latest"] * ("`latest`" in known.get("help", ""))
    if choices:
        yield from ((word, "") for word in choices)
    elif flag == "--help":
        yield from _tasks(tasks)
    elif flag == "--env":
        yield from ((name, "") for name in environments(place))
    elif flag in ("--on", "--hosts", "--skip", "--quarantine"):
        yield from patterns(last, env, place)
    elif flag in ("--member", "--host") or (flag == "--to" and task.startswith("db.")):
        yield from ((host, "") for host in inventory(env, place)[0])
    elif flag == "--release" or (flag == "--to" and task == "rollback"):
        yield from ((name, "") for name in [*latest, *releases(place)])
    elif flag == "--run":
        yield from ((name, "") for name in [*latest, *runs(env, place)])
    elif flag == "--plan":
        yield from ((name, "") for name in plans(env, place))
    elif flag == "--pool":
        yield from ((name, "") for name in pools(place))
    elif flag == "--playbook":
        yield from ((name, "") for name in playbooks(place))


def patterns(last: str, env: str, place: Place) -> Found:
    """An Ansible pattern whose last part is a group or a host: `streaming:&zone_a`, `a,b`."""
    at = max(last.rfind(":"), last.rfind(",")) + 1
    if last[at : at + 1] in ("!", "&"):
        at += 1
    head = last[:at]
    hosts, groups = inventory(env, place)
    yield head + "all", "every host"
    for group, members in groups.items():
        yield head + group, "1 host" if len(members) == 1 else f"{len(members)} hosts"
    for host in hosts:
        yield head + host, ""


def environments(place: Place) -> list[str]:
    """The folders of inventory/ that hold an inventory."""
    return sorted(folder.name for folder in _inside(place.root / "inventory") if _sources(folder))


def _sources(folder: Path) -> list[Path]:
    """The files of an inventory: as backline.inventory finds them."""
    return [
        path
        for path in _inside(folder)
        if path.suffix in (".yml", ".yaml", ".ini") or (path.is_file() and os.access(path, os.X_OK))
    ]


def releases(place: Place) -> list[str]:
    """The releases in dist/, the newest first."""
    end = ".release.json"
    names = [path.name for path in _inside(place.root / "dist") if path.name.endswith(end)]
    return sorted(filter(RELEASE.fullmatch, (name[: -len(end)] for name in names)), reverse=True)


def runs(env: str, place: Place) -> list[str]:
    """The runs made from here, the newest first."""
    folder = place.root / ".backline" / env / "runs"
    return sorted((path.name for path in _inside(folder)), reverse=True)


def plans(env: str, place: Place) -> list[str]:
    """The plans that `fab deploy.plan` kept, the newest first."""
    found = [p for p in _inside(place.root / ".backline" / env / "plans") if p.suffix == ".json"]
    return [path.stem for path in sorted(found, key=_mtime, reverse=True)]


def pools(place: Place) -> list[str]:
    """The pools of workers of the newest releases in dist/."""
    found: dict[str, None] = {}
    for release in releases(place)[:RECENT]:
        processes = _read(place.root / "dist" / f"{release}.release.json").get("processes") or {}
        found |= {name: None for name, what in processes.items() if what.get("kind") == "worker"}
    return sorted(found)


def playbooks(place: Place) -> list[str]:
    """What lies in playbooks/."""
    return sorted(p.stem for p in _inside(place.checkout / "playbooks") if p.suffix == ".yml")


def inventory(env: str, place: Place) -> tuple[list[str], dict[str, list[str]]]:
    """Hosts and groups as they were when the inventory was last read; it is read again, in the
    background, when it has changed since. Without an environment: the only one there is."""
    if not env:
        only = environments(place)
        env = only[0] if len(only) == 1 else ""
    if not env:
        return [], {}
    fits = re.compile(re.escape(env) + r"-[0-9a-f]{32}\.json")
    folder = place.root / ".cache" / "inventory"
    kept = [path for path in _inside(folder) if fits.fullmatch(path.name)]
    newest = max(kept, key=_mtime, default=None)
    changed = max(map(_mtime, _sources(place.root / "inventory" / env)), default=0.0)
    if newest is None or changed > _mtime(newest):
        _read_again(env, place)
    found = _read(newest) if newest else {}
    try:
        return [host["name"] for host in found["hosts"]], dict(found["groups"])
    except (KeyError, TypeError):
        return [], {}


def _read_again(env: str, place: Place) -> None:
    import time

    tried = place.root / ".cache" / f"completion-{env}.tried"
    if time.time() - _mtime(tried) > TRY_EVERY:
        _refresh(place, [env], wait=False, mark=tried)


def known_tasks(place: Place) -> dict[str, Any]:
    """{name: {help, positional, flags: {flag: {value, help, choices}}}}, of the tasks as they were when they
    were last looked at. They are looked at again when their files are newer: at once the first time."""
    path = place.checkout / ".cache" / TASKS
    sources = [place.checkout / "fabfile.py", *_inside(place.checkout / "backline" / "tasks")]
    newest = max(_mtime(source) for source in sources if source.suffix == ".py")
    found = _read(path)
    there = found.get("format") == FORMAT
    if not there or newest > _mtime(path):
        _refresh(place, [], wait=not there)
        found = found if there else _read(path)
    tasks = found.get("tasks")
    return tasks if isinstance(tasks, dict) else {}


def _refresh(place: Place, words: list[str], wait: bool, mark: Path | None = None) -> None:
    """Runs cache.py, which needs more than we may import here."""
    import subprocess

    try:
        (place.root / ".cache").mkdir(mode=0o700, parents=True, exist_ok=True)
        if mark is not None:
            mark.touch()
        run: Callable[..., Any] = subprocess.run if wait else subprocess.Popen
        run(
            [sys.executable, "-m", "backline.completion.cache", *words],
            cwd=place.checkout,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
    except OSError:
        return


def _inside(folder: Path) -> list[Path]:
    try:
        return list(folder.iterdir())
    except OSError:
        return []


def _mtime(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except OSError:
        return 0.0


def _read(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except Exception:  # amid what somebody types, nothing is better than a traceback
        sys.exit(1)
