"""How a run can end other than well, in words: what happened, where, what runs now, what to do."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from backline import wording
from backline.errors import BacklineError, Exit
from backline.rollout.lease import Run, held_by
from backline.rollout.plan import Plan, Step
from backline.transport.port import HostError


def untouched(plan: Plan, error: HostError) -> BacklineError:
    """Failed before any process was touched."""
    refused = error.exit_code == Exit.GUARD_REFUSED
    return BacklineError(
        f"{error.host}: {error.message}" if error.host else error.message,
        hosts=[error.host] if error.host else (),
        state=f"no process was touched; {_live(plan, ())}",
        hint=error.hint or _again(plan),
        exit_code=Exit.GUARD_REFUSED if refused else Exit.ERROR,
    )


def world_changed(step: Step, live: str | None) -> BacklineError:
    """Another run finished between our plan and our lease."""
    return BacklineError(
        f"{step.host} {step.process} runs {live or 'nothing'} now, not {step.live or 'nothing'} "
        "as when this run was planned",
        hosts=[step.host],
        state="nothing was changed",
        hint="look at `fab status`, then try again",
        exit_code=Exit.GUARD_REFUSED,
    )


def rolled_back(plan: Plan, error: HostError, stuck: Mapping[str, HostError]) -> BacklineError:
    """A host failed; `stuck` are the hosts that could not be brought back."""
    where = f" failed on {error.host}" if error.host else " goes back"
    what = f"release {plan.release}{where}: {error.message}"
    if stuck:
        reasons = "; ".join(f"{host}: {trouble.message}" for host, trouble in stuck.items())
        return BacklineError(
            f"{what}\nand the way back failed: {reasons}",
            hosts=stuck,
            state=f"MIXED: {', '.join(stuck)} may run {plan.release}; {_live(plan, (), stuck)}",
            hint="bring these hosts back, then: fab deploy.abort (or fab deploy.resume)",
            exit_code=Exit.MIXED,
        )
    before = {step.live for step in plan.steps}
    if len(before) > 1 and None not in before:
        return BacklineError(
            what,
            hosts=[error.host] if error.host else (),
            state=f"MIXED, as it was before this run: {_live(plan, ())}",
            hint="deploy a release that works, or `fab rollback --to ID`",
            exit_code=Exit.MIXED,
        )
    return BacklineError(
        what,
        hosts=[error.host] if error.host else (),
        state=f"rolled back: {_live(plan, ())}",
        hint=error.hint or "fab status shows the fleet",
        exit_code=Exit.ROLLED_BACK,
    )


def rollback_incomplete(plan: Plan, errors: Sequence[HostError]) -> BacklineError:
    """Some hosts could not go back; the others did."""
    hosts = [error.host for error in errors]
    moved = [step.host for step in plan.steps if step.host not in hosts]
    return BacklineError(
        wording.said(errors),
        hosts=hosts,
        state=f"{_names(moved) or 'no host'} runs {plan.release}, {_names(hosts)} may not",
        hint=f"correct that, then: fab rollback --to {plan.release}",
        exit_code=Exit.MIXED,
    )


def loose(plan: Plan, hosts: Mapping[str, HostError]) -> BacklineError:
    """All others run the release; these were left behind, and may still serve what they had."""
    return BacklineError(
        wording.said(hosts.values()),
        hosts=hosts,
        state=f"MIXED: all other hosts run {plan.release}; {_names(hosts)} could not be taken out "
        "of service and may still serve what was there before",
        hint=f"bring {_names(hosts)} back, then: fab deploy.catchup",
        exit_code=Exit.MIXED,
    )


def not_marked(plan: Plan, errors: Sequence[HostError]) -> BacklineError:
    """All hosts run the release, and some did not write down that it is good."""
    return BacklineError(
        "; ".join(f"{error.host}: {error.message}" for error in errors),
        hosts=[error.host for error in errors],
        state=f"all hosts in service run {plan.release}, but these did not mark it good, so a later "
        "rollback would not choose it",
        hint=f"run it again, it only completes: {_again(plan)}",
    )


def fenced(
    plan: Plan, switched: Sequence[Step], error: HostError, unsure: Sequence[str] = ()
) -> BacklineError:
    """Another run took over, or we slept past our lease: hands off."""
    if not switched and error.code == "lease_held":
        return held_by([error])
    return BacklineError(
        f"this run lost its lease: {error.host}: {error.message}",
        hosts=[error.host],
        state=f"this run changes nothing more; as it left them: {_live(plan, switched)}"
        + (f"; whether {_names(unsure)} did what was asked last is not known" if unsure else ""),
        hint="`fab status` shows the fleet and who holds the lease now; if nobody does: "
        "fab deploy.resume, or fab deploy.abort",
        exit_code=Exit.MIXED if unsure or _is_mixed(plan, switched) else Exit.GUARD_REFUSED,
    )


def interrupted(plan: Plan, run: Run, switched: Sequence[Step], untouched: bool) -> BacklineError:
    """Ctrl-C, or a signal that means the same."""
    choice = f"go on: fab deploy.resume --run {run.id}; go back: fab deploy.abort --run {run.id}"
    return BacklineError(
        "interrupted",
        hosts=dict.fromkeys(step.host for step in switched),
        state=f"{_live(plan, switched)}; the lease is given back",
        hint=_again(plan) if untouched else choice,
        exit_code=Exit.INTERRUPTED,
    )


def _again(plan: Plan) -> str:
    if plan.action == "rollback":
        return f"fab rollback --to {plan.release}"
    return f"fab deploy --release {plan.release}"


def _is_mixed(plan: Plan, switched: Sequence[Step]) -> bool:
    return len({plan.release if step in switched else step.live for step in plan.steps}) > 1


def _live(plan: Plan, switched: Sequence[Step], but: Iterable[str] = ()) -> str:
    """`stream1 runs A; stream2, worker1 run B`, from the steps that were switched."""
    running: dict[str, dict[str, None]] = {}
    left_out = set(but)
    for step in (step for step in plan.steps if step.host not in left_out):
        release = plan.release if step in switched else step.live
        running.setdefault(release or "nothing", {})[step.host] = None
    if len(running) == 1:
        release = next(iter(running))
        everybody = "all other hosts" if left_out else "all hosts"
        return f"{everybody} run {release}" if release != "nothing" else "nothing runs, as before"
    return "; ".join(
        f"{_names(hosts)} {'runs' if len(hosts) == 1 else 'run'} {release}"
        for release, hosts in running.items()
    )


def _names(hosts: Iterable[str]) -> str:
    return ", ".join(dict.fromkeys(hosts))
