"""The verbs: where each lives, what it takes, what it is for. Modules are imported when needed."""

from __future__ import annotations

from typing import NamedTuple

COMMON = ("app", "run", "token", "actor", "message", "head")


class Verb(NamedTuple):
    """One verb of the protocol. `fields` come on top of the common ones."""

    module: str
    function: str
    fields: tuple[str, ...]
    changes: bool
    summary: str


VERBS = {
    "facts": Verb("facts", "facts", ("wide",), False, "what this host is, has and runs"),
    "status": Verb("facts", "status", (), False, "releases, processes and lease of an app"),
    "journal": Verb(
        "facts", "read_journal", ("after", "limit"), False, "the changes made here, and their chain"
    ),
    "certificates": Verb(
        "certificates", "certificates", (), False, "when the certificates of this host end"
    ),
    "lease": Verb(
        "lease",
        "lease",
        ("action", "holder", "lifetime", "plan", "replace", "ended"),
        True,
        "take, renew, release or show the right to change an app",
    ),
    "want": Verb("runs", "want", ("want",), True, "ask the run at work to pause, go on or give up"),
    "note": Verb("runs", "note", ("note",), True, "keep a note of the run on this host"),
    "fetch": Verb(
        "fetch",
        "fetch",
        ("release", "base", "directory", "files", "deadline"),
        True,
        "pull a release's files from an HTTP store, for stage",
    ),
    "stage": Verb(
        "stage",
        "stage",
        ("release", "base", "directory"),
        True,
        "verify an uploaded release, unpack it, build its venv",
    ),
    "start": Verb(
        "processes",
        "start",
        ("release", "process", "deadline"),
        True,
        "start a process of a release beside the live one",
    ),
    "check": Verb(
        "health",
        "check",
        ("release", "process", "passes", "interval", "deadline", "strict", "for", "pid"),
        False,
        "is a process healthy, several times in a row?",
    ),
    "switch": Verb(
        "switch", "switch", ("release", "process"), True, "make a running release the live one"
    ),
    "stop": Verb(
        "stop",
        "stop",
        ("release", "process", "force", "deadline", "after", "wait"),
        True,
        "let a process finish its work and end",
    ),
    "rollback": Verb(
        "switch",
        "rollback",
        ("process", "to", "force", "passes", "interval", "deadline"),
        True,
        "start if needed, check and switch to an earlier release",
    ),
    "migrate": Verb(
        "migrate",
        "migrate",
        ("release", "phase", "deadline"),
        True,
        "run a release's expand or contract migrations",
    ),
    "mark": Verb(
        "prune", "mark", ("release", "state"), True, "call a release good, bad or contracted"
    ),
    "prune": Verb("prune", "prune", ("keep",), True, "remove releases that nothing needs"),
    "quarantine": Verb(
        "quarantine",
        "quarantine",
        ("action", "hosts"),
        True,
        "remember hosts that deploys leave out",
    ),
    "update": Verb("update", "update", ("force",), True, "replace hostctl by a newer, signed one"),
    "balance": Verb(
        "balance",
        "balance",
        ("action", "server"),
        True,
        "keep a server out of this balancer, or let it in",
    ),
    "drain": Verb(
        "drain", "drain", ("action", "persist"), True, "take this host out of the balancers"
    ),
    "database": Verb(
        "database",
        "database",
        (
            *(
                "action",
                "candidate",
                "within",
                "seconds",
                "linger",
                "accept_loss",
                "outage",
            ),
            *("sql", "write", "database", "format"),
            *("how", "pid", "started", "schema", "table"),
        ),
        True,
        "look at this member of the database cluster, or hand over, restart, ask it",
    ),
    "proxy": Verb(
        "proxy",
        "proxy",
        ("action", "leader", "candidate", "server", "seconds"),
        True,
        "hold the database proxy of this app host still during a switchover",
    ),
    "backup": Verb(
        "backups",
        "backup",
        ("action", "job", "cursor"),
        True,
        "how the jobs of the host with the backups went; start one",
    ),
    "broker": Verb("broker", "broker", ("action",), False, "what RabbitMQ here says"),
    "jobs": Verb(
        "jobs",
        "jobs",
        (
            *("action", "queue", "task", "ids", "origin", "to", "limit", "most"),
            *("seconds", "patience", "terminate", "dry"),
        ),
        True,
        "ask the app's Celery here: pools, dead letters, a job that is not to be done",
    ),
    "maintenance": Verb(
        "maintenance",
        "maintenance",
        ("action", "page", "until"),
        True,
        "show listeners of this edge a page instead of the application",
    ),
    "cache": Verb(
        "cache",
        "cache",
        ("action", "paths", "location", "seconds"),
        True,
        "drop files from this host's cache of audio",
    ),
    "scale": Verb(
        "scale", "scale", ("process", "children"), True, "how many jobs a pool here does at once"
    ),
}
