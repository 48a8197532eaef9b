"""Outside checkers on a lab's hosts: how hard are they, by somebody else's measure?"""

from __future__ import annotations

import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import yaml
from invoke.collection import Collection
from invoke.context import Context

from backline import audit
from backline.errors import BacklineError
from backline.lab import checkers, files
from backline.lab.topology import LabHost
from backline.tasks.command import command, say
from backline.tasks.steps import ROOT

THRESHOLDS = ROOT / "tests" / "audit" / "thresholds.yml"
TOOLS = ("lynis", "ssh-audit", "testssl", "systemd", "gixy")
AT_ONCE = 2


@command(
    name="hosts",
    help={
        "env": "the lab's name",
        "only": f"these checkers alone, with commas between: {', '.join(TOOLS)}",
        "on": "these hosts alone, with commas between",
        "json": "one JSON object per host and checker on stdout",
    },
)
def hosts(c: Context, env: str = "lab", only: str = "", on: str = "", json: bool = False) -> None:
    """Run lynis, ssh-audit, testssl.sh, systemd-analyze and gixy on a lab; exit 1 if it misses the bar."""
    tools = _names(only, list(TOOLS), "checker")
    topology = files.require(env).topology()
    chosen = _names(on, [host.name for host in topology.hosts], "host")
    limits = audit.Thresholds.model_validate(yaml.safe_load(THRESHOLDS.read_text(encoding="utf-8")))
    checkers.ensure(tools, say)
    jobs = [
        (host, tool, limits)
        for tool in tools
        for host in topology.hosts
        if host.name in chosen and (tool != "testssl" or "https" in host.ports)
    ]
    measured: list[str] = []

    def measure(job: tuple[LabHost, str, audit.Thresholds]) -> list[audit.Verdict]:
        host, tool, limits = job
        say(f"{tool} on {host.name}")
        verdicts = _measure(env, host, tool, limits)
        measured.extend(pattern for pattern, _ in verdicts)
        return [verdict for _, verdict in verdicts]

    with ThreadPoolExecutor(AT_ONCE) as pool:
        verdicts = [verdict for found in pool.map(measure, jobs) for verdict in found]
    missing = audit.unmeasured(limits, measured) if "systemd" in tools and not on else []
    (_print_json if json else _print)(verdicts)
    missed = [verdict for verdict in verdicts if not verdict.ok]
    for pattern in missing:
        say(f"no host has a unit {pattern}: its limit was held against nothing")
    if missed or missing:
        raise BacklineError(
            f"{len(missed)} of {len(verdicts)} measurements miss the bar"
            + (f", {len(missing)} limits measured nothing" if missing else ""),
            hosts=sorted({verdict.host for verdict in missed}),
            hint="mend what is listed, or waive it with a reason in tests/audit/thresholds.yml",
        )


def _measure(
    env: str, host: LabHost, tool: str, limits: audit.Thresholds
) -> list[tuple[str, audit.Verdict]]:
    """The verdicts of one checker on one host, each with what it measured."""
    lab = files.require(env).topology()
    name = host.name
    if tool == "systemd":
        return audit.judge_units(name, checkers.systemd(lab, host), limits)
    if tool == "gixy":
        found = checkers.gixy(lab, host)
        if found is None:
            return []
        bar = limits.gixy.severity
        return [(tool, audit.judge_severity(name, tool, audit.gixy(found), bar, limits))]
    if tool == "testssl":
        entries = checkers.testssl(host, files.INVENTORY / env / "edge-ca.pem")
        bar = limits.testssl.severity
        return [(tool, audit.judge_severity(name, tool, audit.testssl(entries), bar, limits))]
    one: dict[str, Callable[[], audit.Verdict]] = {
        "lynis": lambda: audit.judge_lynis(
            name, checkers.lynis(lab, host, limits.container), limits
        ),
        "ssh-audit": lambda: audit.judge_ssh(name, checkers.ssh_audit(host), limits),
    }
    return [(tool, one[tool]())]


def _names(given: str, known: list[str], what: str) -> list[str]:
    names = [name for name in given.split(",") if name] or known
    unknown = sorted(set(names) - set(known))
    if unknown:
        raise BacklineError(
            f"no {what} {', '.join(unknown)}", hint=f"there are: {', '.join(known)}"
        )
    return names


def _print(verdicts: list[audit.Verdict]) -> None:
    print(f"\n{'HOST':10}{'CHECKER':11}{'':7}{'VALUE':42}BAR")
    for verdict in sorted(verdicts):
        word = "ok" if verdict.ok else "MISSED"
        waived = f"   ({len(verdict.waived)} waived)" if verdict.waived else ""
        print(
            f"{verdict.host:10}{verdict.tool:11}{word:7}{verdict.value:42}{verdict.limit}{waived}"
        )
    seen: dict[tuple[str, audit.Finding], list[str]] = {}
    for verdict in verdicts:
        for finding in () if verdict.ok else verdict.findings:
            seen.setdefault((verdict.tool, finding), []).append(verdict.host)
    if seen:
        print("\nIn the way:")
    for (tool, finding), where in sorted(seen.items()):
        print(f"  {tool} {finding.id} [{finding.severity}] {finding.text}   ({','.join(where)})")


def _print_json(verdicts: list[audit.Verdict]) -> None:
    for verdict in verdicts:
        row = verdict._asdict()
        for key in ("findings", "waived"):
            row[key] = [finding._asdict() for finding in row[key]]
        print(json.dumps({"schema_version": 1, **row}))


collection = Collection("audit", hosts)
