"""Tests, from quick to real."""

from __future__ import annotations

from pathlib import Path

from invoke.collection import Collection
from invoke.context import Context

from backline.errors import BacklineError
from backline.tasks.command import command, say
from backline.tasks.quality import lint_steps
from backline.tasks.steps import BIN, ROOT, Step, StepsError, mitogen, run_all

JUKEBOX = ROOT / "examples" / "jukebox"
JUKEBOX_VENV = ROOT / ".cache" / "jukebox-venv"
FAULTS_HELP = {
    "only": "these tests alone, with commas between",
    "env": "aim at this lab, which is up, and leave it as it ends (default: a new `lab-chaos`)",
    "keep": "take `lab-chaos` as it is, if it is up, and leave it up",
}


def _fast_steps() -> list[Step]:
    pytest: list[str | Path] = [BIN / "python", "-m", "pytest"]
    return [
        Step("unit tests", [*pytest, "tests/unit"], again="inv test.unit"),
        Step("template tests", [*pytest, "tests/templates"], again="inv test.templates"),
    ]


def _quick_steps() -> list[Step]:
    """Lint, unit and template tests, the longest first, so that two at once end together."""
    lint, tests = lint_steps(), _fast_steps()
    return [lint[-1], *tests, *lint[:-1]]


def _jukebox_steps() -> list[Step]:
    python = JUKEBOX_VENV / "bin" / "python"
    uv = BIN / "uv"
    locks = ["requirements.lock", "requirements-dev.lock"]
    return [
        Step(
            "jukebox: its environment",
            [uv, "venv", "--quiet", "--allow-existing", "--python", BIN / "python", JUKEBOX_VENV],
        ),
        Step(
            "jukebox: its packages",
            [uv, "pip", "sync", "--quiet", "--require-hashes", "--python", python, *locks],
            JUKEBOX,
        ),
        Step("jukebox: its tests", [python, "-m", "pytest"], JUKEBOX, again="inv test.jukebox"),
    ]


def _scenarios(roles: Path = ROOT / "roles") -> dict[str, list[str]]:
    """The scenarios of every role that has any."""
    found: dict[str, list[str]] = {}
    for path in sorted(roles.glob("*/molecule/*/molecule.yml")):
        found.setdefault(path.parents[2].name, []).append(path.parent.name)
    return found


def _chosen(only: str, known: list[str]) -> list[str]:
    """The names in `only`, all of them without any; BacklineError for one that is not known."""
    names = [name for name in only.split(",") if name] or known
    unknown = sorted(set(names) - set(known))
    if unknown:
        raise BacklineError(
            f"no scenario for {', '.join(unknown)}", hint=f"there are: {', '.join(known)}"
        )
    return names


def _role_steps(scenarios: dict[str, list[str]]) -> list[Step]:
    """`molecule test` of each scenario: create, converge, idempotence, verify with testinfra, destroy."""
    variables = {"BACKLINE_MOLECULE_CONNECTION": "mitogen_podman", **mitogen()}
    return [
        Step(
            f"role {role}" if scenario == "default" else f"role {role}: {scenario}",
            [BIN / "molecule", "test", "--scenario-name", scenario],
            ROOT / "roles" / role,
            variables,
            again=f"inv test.roles --only {role}",
        )
        for role, names in scenarios.items()
        for scenario in names
    ]


def _ensure_image() -> None:
    from backline.lab import image, machine

    machine.ensure_podman(say)
    name = image.ensure_image(say)
    if not machine.fitted():
        machine.fit(name, say)


def _ensure_program(name: str, *packages: str) -> None:
    """Debian's packages with a program that tests use."""
    import os
    import shutil

    from backline.lab import machine

    if not shutil.which(name, path=f"{os.environ.get('PATH', '')}{os.pathsep}/usr/sbin"):
        machine.install(packages, name, say)


def _ensure_programs() -> None:
    """Unit tests talk to a real sshd, on loopback addresses, and press TAB in real shells."""
    _ensure_program("sshd", "openssh-server")
    _ensure_program("zsh", "zsh")
    _ensure_program("fish", "fish")


def _ensure_browser() -> None:
    """The report's page is looked at by a real browser; without one those tests are skipped."""
    _ensure_program("chromium", "chromium", "fonts-dejavu-core")


def _fleet_step() -> Step:
    argv: list[str | Path] = [BIN / "python", "-m", "pytest", "tests/fleet", "-x", "-v"]
    return Step("fleet: a real one, from nothing", argv, again="inv test.fleet")


@command()
def unit(c: Context) -> None:
    """Test the domain: no hosts, no network but loopback."""
    _ensure_programs()
    run_all(_fast_steps()[:1])


@command()
def templates(c: Context) -> None:
    """Render every role's templates with Ansible's own templar and check the result."""
    run_all(_fast_steps()[1:])


@command()
def jukebox(c: Context) -> None:
    """Test the sample application, on a real PostgreSQL."""
    run_all(_jukebox_steps())


@command(help={"only": "these roles alone, with commas between"})
def roles(c: Context, only: str = "") -> None:
    """Test the roles with molecule and testinfra, each scenario on hosts of its own."""
    known = _scenarios()
    names = _chosen(only, list(known))
    _ensure_image()
    run_all(_role_steps({name: known[name] for name in names}), at_once=2)


@command(help={"keep": "use lab `lab-test` as it is, if it is up, and leave it up"})
def fleet(c: Context, keep: bool = False) -> None:
    """Test a real fleet from nothing: site.yml, deploy, a song, a tampered release, rollback."""
    import os

    if keep:
        os.environ["BACKLINE_KEEP_LAB"] = "1"
    _ensure_image()
    run_all([_fleet_step()])


def _scenarios_of(folder: str) -> list[str]:
    return sorted(
        path.stem.removeprefix("test_") for path in ROOT.glob(f"tests/{folder}/test_*.py")
    )


def _faults(folder: str, names: list[str], env: str, keep: bool) -> list[str | Path]:
    """pytest on a real fleet: the tests `names` of `tests/FOLDER`."""
    argv: list[str | Path] = [BIN / "python", "-m", "pytest", "-v", "-s"]
    argv += [f"tests/{folder}/test_{name}.py" for name in names]
    argv += ["--env", env] if env else []
    argv += ["--keep"] if keep else []
    return argv


@command(help=FAULTS_HELP)
def chaos(c: Context, only: str = "", env: str = "", keep: bool = False) -> None:
    """Break a real fleet in ways that production will: under load, with listeners counted."""
    names = _chosen(only, _scenarios_of("chaos"))
    _ensure_image()
    argv = _faults("chaos", names, env, keep)
    run_all([Step("chaos: faults on a real fleet", argv, again="inv test.chaos")])


@command(help=FAULTS_HELP)
def rollout(c: Context, only: str = "", env: str = "", keep: bool = False) -> None:
    """Test the rollout engine: state machine first, then faults at every step on a real fleet."""
    names = _chosen(only, _scenarios_of("rollout"))
    _ensure_image()
    _ensure_program("faketime", "faketime")  # a controller whose clock is wrong
    _ensure_program("strace", "strace")  # when the first packet of a rollback leaves
    machine: list[str | Path] = [BIN / "python", "-m", "pytest"]
    machine += ["tests/unit/rollout", "tests/unit/hostctl"]
    argv = _faults("rollout", names, env, keep)
    run_all(
        [
            Step("rollout: the state machine", machine, again="inv test.unit"),
            Step("rollout: faults on a real fleet", argv, again="inv test.rollout"),
        ]
    )


@command(help={**FAULTS_HELP, "env": FAULTS_HELP["env"].replace("this lab", "this full lab")})
def data(c: Context, only: str = "", env: str = "", keep: bool = False) -> None:
    """Break the data tier of a real fleet: what was lost, who took writes, how long nobody did."""
    names = _chosen(only, _scenarios_of("data"))
    _ensure_image()
    judge: list[str | Path] = [BIN / "python", "-m", "pytest"]
    judge += sorted(ROOT.glob("tests/unit/live/test_data_*.py"))
    argv = _faults("data", names, env, keep)
    run_all(
        [
            Step("data: who judges", judge, again="inv test.unit"),
            Step("data: faults on a real fleet", argv, again="inv test.data"),
        ]
    )


@command()
def fast(c: Context) -> None:
    """Lint, unit and template tests: about a minute."""
    _ensure_programs()
    run_all(_quick_steps(), at_once=2)


@command()
def everything(c: Context) -> None:
    """Run all tests, as CI does."""
    failures = []
    _ensure_image()
    _ensure_browser()
    _ensure_programs()
    for steps, at_once in (
        # First: unit tests build releases of it, and start them in its environment.
        (_jukebox_steps(), 1),
        (_quick_steps(), 2),
        (_role_steps(_scenarios()), 2),
        ([_fleet_step()], 1),
    ):
        try:
            run_all(steps, at_once)
        except StepsError as error:
            failures.append(error)
    if failures:
        # Half an hour of output lies between a failure and here.
        for tail in (tail for error in failures for tail in error.tails):
            print(f"\n{tail}", flush=True)
        raise BacklineError(
            " | ".join(error.message for error in failures),
            hint="; ".join(error.hint for error in failures if error.hint),
        )


collection = Collection("test", unit, templates, jukebox, roles, fleet, chaos, rollout, data, fast)
collection.add_task(everything, name="all", default=True)
