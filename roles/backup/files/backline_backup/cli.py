"""usage: backup run (full|diff|check|verify|drill)
       backup metrics | archive-metrics
       backup plan [--to MOMENT] [--timeline T]
       backup restore FOLDER [--to MOMENT] [--timeline T] [--port PORT]
       backup hand-over FOLDER    (reads Patroni's accounts as JSON)
       backup drop FOLDER
       backup clean

MOMENT is `newest` or a time with its zone, such as 2026-11-26T02:59:00+00:00.
Ends with 1 when the job failed, with 6 when what was asked for was refused before anything was touched.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from . import archiver, beside, drill, handover, metrics, runner, settings, targets
from .errors import BackupError, RefusedError

ERROR, REFUSED = 1, 6


def main(words: list[str]) -> int:
    options = parser().parse_args(words)
    try:
        return act(options, settings.load())
    except RefusedError as error:
        print(f"refused: {error}", file=sys.stderr)
        return REFUSED
    except BackupError as error:
        print(error, file=sys.stderr)
        return ERROR


def act(options: argparse.Namespace, known: settings.Settings) -> int:
    if options.action == "run":
        result = runner.run(known, options.job)
        print(f"{result.job}: {'good' if result.good else f'FAILED: {result.why}'}", flush=True)
        return 0 if result.good else ERROR
    if options.action == "metrics":
        metrics.write(known)
    if options.action == "archive-metrics":
        archiver.write(known)
    if options.action == "clean":
        drill.scratch_of(known).remove()
    if options.action == "plan":
        print(json.dumps(beside.plan(known, options.to, options.timeline)))
    if options.action == "restore":
        made = beside.restore(known, options.folder, options.to, options.timeline, options.port)
        print(json.dumps(made))
    if options.action == "hand-over":
        print(json.dumps(handover.prepare(known, options.folder, json.load(sys.stdin))))
    if options.action == "drop":
        beside.drop(known, options.folder)
    return 0


def parser() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(prog="backup", description=__doc__, usage=argparse.SUPPRESS)
    actions = made.add_subparsers(dest="action", required=True)
    actions.add_parser("run").add_argument("job", choices=sorted(runner.JOBS))
    for name in ("metrics", "archive-metrics", "clean"):
        actions.add_parser(name)
    plan, restore = actions.add_parser("plan"), actions.add_parser("restore")
    for action in (plan, restore):
        action.add_argument("--to", default=targets.NEWEST)
        action.add_argument("--timeline", default="latest")
    for action in (restore, actions.add_parser("hand-over"), actions.add_parser("drop")):
        action.add_argument("folder", type=Path)
    restore.add_argument("--port", type=int, default=5433)
    return made
