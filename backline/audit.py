"""What outside checkers found on the hosts, and whether that is good enough.

Each reader takes what its checker printed and returns findings; `judge` holds them against the limits
of tests/audit/thresholds.yml. Nothing here runs anything.
"""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from pydantic import BaseModel, ConfigDict, Field

SEVERITIES = ("OK", "INFO", "LOW", "WARN", "MEDIUM", "HIGH", "CRITICAL", "FATAL")


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class LynisLimit(_Strict):
    index: int


class SshLimit(_Strict):
    fail: int
    warn: int


class SeverityLimit(_Strict):
    severity: str


class UnitLimit(_Strict):
    units: str
    exposure: float


class Waiver(_Strict):
    """A finding that is not to be mended, and why."""

    tool: str
    finding: str
    text: str = "*"
    hosts: str = "*"
    reason: str = Field(min_length=20)


class Thresholds(_Strict):
    """tests/audit/thresholds.yml."""

    lynis: LynisLimit
    ssh_audit: SshLimit = Field(alias="ssh-audit")
    testssl: SeverityLimit
    gixy: SeverityLimit
    systemd: list[UnitLimit]
    waivers: list[Waiver] = []
    container: dict[str, str] = {}


class Finding(NamedTuple):
    """One thing that a checker holds against a host: `id` as the checker calls it."""

    id: str
    severity: str
    text: str


class Verdict(NamedTuple):
    """One checker on one host: the value it came to, the bar, and what stands in the way."""

    host: str
    tool: str
    value: str
    limit: str
    ok: bool
    findings: tuple[Finding, ...] = ()
    waived: tuple[Finding, ...] = ()


def lynis(report: str) -> tuple[int, list[Finding]]:
    """The hardening index and the suggestions in lynis' report file. ValueError without an index."""
    index = re.search(r"^hardening_index=(\d+)$", report, re.M)
    if index is None:
        raise ValueError("the report has no hardening index")
    found = []
    for kind, line in re.findall(r"^(warning|suggestion)\[\]=(.*)$", report, re.M):
        test, text, detail = [*line.split("|"), "", ""][:3]
        more = f" ({detail})" if detail not in ("", "-") else ""
        found.append(Finding(test, kind, f"{text}{more}"))
    return int(index[1]), found


def ssh_audit(document: dict[str, Any]) -> list[Finding]:
    """The algorithms of ssh-audit's JSON that have a `fail` or a `warn`."""
    found = []
    for kind in ("kex", "key", "enc", "mac"):
        for entry in document.get(kind, []):
            for severity in ("fail", "warn"):
                for note in entry.get("notes", {}).get(severity, []):
                    found.append(Finding(entry["algorithm"], severity, f"{kind}: {note}"))
    found += [Finding(str(entry), "fail", "known flaw") for entry in document.get("cves", [])]
    return found


def testssl(entries: Iterable[dict[str, Any]]) -> list[Finding]:
    """What testssl.sh's JSON rates worse than a piece of information."""
    return [
        Finding(entry["id"], entry["severity"], entry["finding"])
        for entry in entries
        if entry["severity"] not in ("OK", "INFO", "DEBUG")
    ]


def gixy(entries: Iterable[dict[str, Any]]) -> list[Finding]:
    """What gixy's JSON says of an nginx configuration."""
    return [
        Finding(
            entry["plugin"],
            entry["severity"].upper(),
            f"{entry['file']}:{entry['line']}: {entry.get('reason') or entry['summary']}",
        )
        for entry in entries
    ]


def exposures(rows: Iterable[dict[str, Any]]) -> dict[str, float]:
    """The exposure of each unit in the JSON of `systemd-analyze security`."""
    return {row["unit"]: float(row["exposure"]) for row in rows}


def at_least(findings: Iterable[Finding], severity: str) -> list[Finding]:
    """The findings of this severity and above; a severity that we do not know counts as the worst."""
    bar = SEVERITIES.index(severity)
    return [
        finding
        for finding in findings
        if finding.severity not in SEVERITIES or SEVERITIES.index(finding.severity) >= bar
    ]


def judge_lynis(host: str, report: str, limits: Thresholds) -> Verdict:
    """The index against the bar; the findings are what would raise it."""
    index, found = lynis(report)
    shown = [finding for finding in found if finding.id not in limits.container]
    good = index >= limits.lynis.index
    return Verdict(
        host, "lynis", str(index), f">= {limits.lynis.index}", good, () if good else tuple(shown)
    )


def judge_ssh(host: str, document: dict[str, Any], limits: Thresholds) -> Verdict:
    """The counts of `fail` and `warn` that are left after the waivers."""
    left, waived = _sift(host, "ssh-audit", ssh_audit(document), limits.waivers)
    fail, warn = (sum(f.severity == kind for f in left) for kind in ("fail", "warn"))
    bar = limits.ssh_audit
    good = fail <= bar.fail and warn <= bar.warn
    value, limit = f"{fail} fail, {warn} warn", f"<= {bar.fail} fail, {bar.warn} warn"
    return Verdict(host, "ssh-audit", value, limit, good, tuple(left), tuple(waived))


def judge_severity(
    host: str, tool: str, findings: Iterable[Finding], bar: str, limits: Thresholds
) -> Verdict:
    """Nothing of severity `bar` or above may be left after the waivers."""
    left, waived = _sift(host, tool, at_least(findings, bar), limits.waivers)
    return Verdict(
        host, tool, f"{len(left)}", f"0 of {bar} or above", not left, tuple(left), tuple(waived)
    )


def judge_units(
    host: str, rows: Iterable[dict[str, Any]], limits: Thresholds
) -> list[tuple[str, Verdict]]:
    """A verdict for each pattern that some unit of the host fits, with the worst of its units."""
    verdicts = []
    rest = exposures(rows)
    for limit in limits.systemd:
        mine = {unit: rest[unit] for unit in rest if fnmatch.fnmatchcase(unit, limit.units)}
        rest = {unit: value for unit, value in rest.items() if unit not in mine}
        if not mine:
            continue
        over = [
            Finding(unit, "exposure", f"{value} of at most {limit.exposure}")
            for unit, value in sorted(mine.items())
            if value > limit.exposure
        ]
        left, waived = _sift(host, "systemd", over, limits.waivers)
        value, bar = f"{max(mine.values())} ({limit.units})", f"<= {limit.exposure}"
        verdict = Verdict(host, "systemd", value, bar, not left, tuple(left), tuple(waived))
        verdicts.append((limit.units, verdict))
    return verdicts


def unmeasured(limits: Thresholds, measured: Iterable[str]) -> list[str]:
    """The patterns of units that fitted no unit of any host: a limit that nothing was held to."""
    seen = set(measured)
    return [limit.units for limit in limits.systemd if limit.units not in seen]


def _sift(
    host: str, tool: str, findings: Iterable[Finding], waivers: Sequence[Waiver]
) -> tuple[list[Finding], list[Finding]]:
    left: list[Finding] = []
    waived: list[Finding] = []
    for finding in findings:
        excused = any(
            waiver.tool == tool
            and fnmatch.fnmatchcase(finding.id, waiver.finding)
            and fnmatch.fnmatchcase(finding.text, waiver.text)
            and fnmatch.fnmatchcase(host, waiver.hosts)
            for waiver in waivers
        )
        (waived if excused else left).append(finding)
    return left, waived
