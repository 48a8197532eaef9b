"""What all tasks that roll something share: journal, probe, hooks and webhook around one run."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from backline.errors import BacklineError, Exit
from backline.tasks import operator
from backline.tasks.operator import confirm

if TYPE_CHECKING:
    from pathlib import Path

    from backline.inventory import Environment
    from backline.rollout.cargo import Cargo
    from backline.rollout.events import Event, Report
    from backline.rollout.lease import Run
    from backline.rollout.plan import Plan
    from backline.transport.fleet import SshFleet
    from backline.transport.port import HostError, Probe

WEBHOOK = "BACKLINE_WEBHOOK"
TOLD = ("phase", "verdict", "warning", "quarantine", "ended")


@dataclass
class Options:
    """How a run is carried out, apart from its plan."""

    as_json: bool = False
    dry_run: bool = False
    yes: int = 0
    fences: Mapping[str, int] = field(default_factory=dict)
    cargo: Cargo | None = None
    probe_paths: tuple[str, ...] = ("/",)
    resumed: bool = False
    back: bool = False
    asked_back: bool = False
    replace: bool = False
    missing: Mapping[str, HostError] = field(default_factory=dict)
    given_up: tuple[str, ...] = ()


def carry_out(fleet: Environment, hosts: SshFleet, plan: Plan, run: Run, options: Options) -> None:
    """Shows the plan, asks if it must, and runs it; raises BacklineError when it does not end well."""
    with suppress(BrokenPipeError):  # the run goes on although nobody reads
        _show(plan, run, options)
    if options.dry_run:
        return
    confirm(fleet, len(plan.hosts), options.yes, options.as_json)
    with recorded(fleet, plan, run, options) as (report, journal, probe):
        _roll(fleet, hosts, plan, run, options, report, journal, probe)


def _show(plan: Plan, run: Run, options: Options) -> None:
    from backline import console
    from backline.rollout.events import Event

    if options.as_json:
        event = Event("plan", release=plan.release, data=as_data(plan))
        console.line(event.as_json(run.id, now()))
    else:
        console.show_plan(plan)
        reasons: dict[str, list[str]] = {}
        for host, error in options.missing.items():
            reasons.setdefault(error.message, []).append(host)
        for why, away in reasons.items():
            text = f"  without   {', '.join(away)}: {why}"
            console.console().print(text, style="yellow", markup=False)


def _roll(
    fleet: Environment,
    hosts: SshFleet,
    plan: Plan,
    run: Run,
    options: Options,
    report: Report,
    journal: Any,
    probe: Probe | None,
) -> None:
    from backline.rollout.engine import Rollout
    from backline.transport.hooks import Hooks

    Rollout(
        plan,
        hosts,
        run,
        operator.clock(),
        report,
        fences=options.fences,
        cargo=options.cargo,
        journal=journal,
        probe=probe,
        hooks=Hooks(fleet.rollout.get("hooks") or {}),
        resumed=options.resumed,
        back=options.back,
        asked_back=options.asked_back,
        replace=options.replace,
        missing=options.missing,
        given_up=options.given_up,
        balancers=fleet.groups.get(str(fleet.rollout.get("balancers") or "edge"), ()),
    ).carry_out()


@contextmanager
def recorded(
    fleet: Environment, plan: Plan, run: Run, options: Options
) -> Iterator[tuple[Report, Any, Probe | None]]:
    """The journal of a run and all who are told of it; writes down how the run ended."""
    from backline import console, places
    from backline.rollout.events import Event
    from backline.transport.notify import Notifier
    from backline.transport.runlog import RunLog

    folder = places.runs(fleet.name) / run.id
    address = os.environ.get(WEBHOOK, "")
    with ExitStack() as stack:
        stack.callback(_write_report, fleet, run, options)
        journal = stack.enter_context(RunLog(folder / "journal.jsonl"))
        narrator = stack.enter_context(console.Narrator(run.id, options.as_json))
        notifier = stack.enter_context(Notifier(address)) if address else None

        def report(event: Event) -> None:
            if event.kind != "progress":
                record = event.as_json(run.id, now())
                journal.add(record)
                if notifier and event.kind in TOLD:
                    notifier.tell({"environment": fleet.name, **record})
            narrator.report(event)

        _begin(fleet, plan, run, options, report)
        probe = stack.enter_context(_probe(fleet, plan, folder, options))
        try:
            yield report, journal, probe
        except BacklineError as error:
            report(Event("ended", text=error.message, data=_ending(error)))
            raise
        except Exception as error:
            what = f"a fault of Backline itself: {type(error).__name__}: {error}"
            report(Event("ended", text=what, data={"exit_code": int(Exit.ERROR)}))
            raise
        else:
            report(Event("ended", release=plan.release, data={"exit_code": int(Exit.DONE)}))
        finally:
            journal.flush()
            _audit(fleet, run, "end", journal.head)
    if notifier and notifier.trouble:
        console.console().print(f"  webhook: {notifier.trouble}", style="yellow", markup=False)


def _begin(fleet: Environment, plan: Plan, run: Run, options: Options, report: Report) -> None:
    from backline.rollout.events import Event

    how = "abort" if options.back else "resume" if options.resumed else plan.action
    what = {"actor": run.actor, "message": run.message, "release": plan.release, "how": how}
    _audit(fleet, run, "begin", {**what, "plan": plan.digest, "hosts": len(plan.hosts)})
    data = {"plan": plan.as_data(), "digest": plan.digest, "actor": run.actor, "how": how}
    report(Event("begun", release=plan.release, text=run.message, data=data))


def _write_report(fleet: Environment, run: Run, options: Options) -> None:
    """A page about the run; no run fails because there is none."""
    from backline import console, places
    from backline.tasks import report

    with suppress(Exception):
        path = report.write(fleet.name, run.id).relative_to(places.root())
        if not options.as_json:
            console.console().print(f"  report: {path}", markup=False, soft_wrap=True)


def _audit(fleet: Environment, run: Run, event: str, what: Mapping[str, Any]) -> None:
    """One line in the chain of all runs; another run on this machine may be writing it just now."""
    from backline import places
    from backline.transport.runlog import RunLog

    with RunLog(places.audit(fleet.name), patience=5.0) as log:
        data = {"journal": dict(what)} if event == "end" else dict(what)
        log.add({"time": round(now(), 3), "event": event, "run": run.id, **data})


@contextmanager
def _probe(
    fleet: Environment, plan: Plan, folder: Path, options: Options
) -> Iterator[Probe | None]:
    """Real requests through the edge, if the inventory says where that is."""
    from pathlib import Path

    from backline.transport.prober import ProbeConfig, Prober

    url = str(fleet.rollout.get("probe_url") or "")
    if not url or plan.action == "rollback":
        yield None
        return
    ca = fleet.rollout.get("probe_ca")
    config = ProbeConfig(
        base=url,
        ca=Path(str(ca)) if ca else None,
        rate=float(fleet.rollout.get("probe_rate") or 20.0),
        paths=options.probe_paths,
        connect=str(fleet.rollout.get("probe_connect") or "") or None,
    )
    with Prober(config, folder / "probe.jsonl") as prober:
        yield prober


def _ending(error: BacklineError) -> dict[str, Any]:
    return {
        "exit_code": int(error.exit_code),
        "hosts": list(error.hosts),
        "state": error.state,
        "hint": error.hint,
    }


def as_data(plan: Plan) -> dict[str, Any]:
    """A plan as the event `plan` has it."""
    data = {key: value for key, value in plan.as_data().items() if key != "release"}
    return {"digest": plan.digest, "hosts": plan.hosts, "ship_to": plan.ship_to, **data}


def now() -> float:
    """The time that events are told with."""
    return operator.clock().time()
