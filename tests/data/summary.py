"""What the suite measured, from its recordings alone: one JSON document and one table.

.venv/bin/python -m tests.data.summary .cache/test-data/20261126T020000Z
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from tests.data import judge, trial

Row = dict[str, Any]


def rows(folder: Path) -> list[Row]:
    """A row for each kind of trial, in the order in which they were first made."""
    by: dict[tuple[str, str], list[Path]] = {}
    for path in sorted(folder.glob("*/trial.json")):
        about = trial.about(path.parent)
        by.setdefault((about["kind"], about["name"]), []).append(path.parent)
    makers = {"database": _database, "broker": _broker, "note": _note}
    return [makers[kind](name, places) for (kind, name), places in by.items()]


def _database(name: str, places: list[Path]) -> Row:
    whole = [place for place in places if (place / "found.json").exists()]
    verdicts = [trial.read(place) for place in whole]
    return {
        "name": name,
        "trials": len(places),
        "unfinished": len(places) - len(whole),
        "acknowledged": sum(len(v.clients.acknowledged) + v.probes for v in verdicts),
        "lost": sum(len(v.lost) for v in verdicts),
        "two_writable": sum(len(v.two_writable) for v in verdicts),
        "errors": sum(v.clients.errors for v in verdicts),
        "gave_up_without_retry": sum(v.clients.gave_up.get(0, 0) for v in verdicts),
        "gave_up_after_one_retry": sum(v.clients.gave_up.get(1, 0) for v in verdicts),
        **_seconds("pause", [v.clients.pause for v in verdicts]),
        **_seconds("gap", [v.clients.gap for v in verdicts]),
    }


def _broker(name: str, places: list[Path]) -> Row:
    verdicts = [found for found in map(trial.read_jobs, places) if found.ended]
    return {
        "name": name,
        "trials": len(places),
        "unfinished": len(places) - len(verdicts),
        "acknowledged": sum(v.confirmed for v in verdicts),
        "lost": sum(len(v.lost) for v in verdicts),
        "errors": sum(v.refused for v in verdicts),
        "gave_up_after_one_retry": sum(v.gave_up for v in verdicts),
        **_seconds("pause", [v.gap for v in verdicts]),
    }


def _note(name: str, places: list[Path]) -> Row:
    values = [
        json.loads((place / "note.json").read_text(encoding="utf-8"))
        for place in places
        if (place / "note.json").exists()
    ]
    return {"name": name, "trials": len(places), "notes": values}


def _seconds(name: str, values: list[float]) -> Row:
    found = judge.spread(values)
    if found is None:
        return {}
    return {f"{name}_median_s": round(found[0], 2), f"{name}_max_s": round(found[1], 2)}


def note(name: str, **values: Any) -> None:
    """Keeps what a trial without clients found out, for the summary."""
    (trial.recording("note", name) / "note.json").write_text(json.dumps(values) + "\n")


COLUMNS = {
    "trials": "trials",
    "unfinished": "unfinished",
    "acknowledged": "acknowledged",
    "lost": "lost",
    "two_writable": "2 writable",
    "errors": "errors",
    "gave_up_after_one_retry": "after retry",
    "pause_median_s": "pause median",
    "pause_max_s": "max",
}


def table(found: list[Row]) -> str:
    """For people. A dash is what a trial does not measure."""
    lines = [["", *COLUMNS.values()]]
    for row in found:
        lines.append([row["name"], *(str(row.get(column, "-")) for column in COLUMNS)])
    widths = [max(len(line[n]) for line in lines) for n in range(len(lines[0]))]
    text = [
        "  ".join(
            [
                line[0].ljust(widths[0]),
                *(w.rjust(n) for w, n in zip(line[1:], widths[1:], strict=True)),
            ]
        )
        for line in lines
    ]
    notes = [
        f"{row['name']}: " + ", ".join(f"{key} {value}" for key, value in values.items())
        for row in found
        for values in row.get("notes", [])
    ]
    return "\n".join([*text, *notes])


def publish(folder: Path) -> str:
    """Writes summary.json into the folder; returns the table."""
    found = rows(folder)
    document = {"schema_version": 1, "rows": found}
    (folder / "summary.json").write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    return f"{table(found)}\n\n{folder / 'summary.json'}"


if __name__ == "__main__":
    print(publish(Path(sys.argv[1])))
