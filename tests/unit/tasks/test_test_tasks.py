"""What `inv test.roles` runs."""

from __future__ import annotations

from pathlib import Path

import pytest
from invoke.context import Context

from backline.errors import BacklineError
from backline.tasks import test as tasks


@pytest.fixture
def roles(tmp_path: Path) -> Path:
    for scenario in ("database/default", "database/three", "edge/default"):
        role, name = scenario.split("/")
        folder = tmp_path / role / "molecule" / name
        folder.mkdir(parents=True)
        (folder / "molecule.yml").touch()
    (tmp_path / "app" / "tasks").mkdir(parents=True)
    return tmp_path


def test_every_scenario_of_a_role_is_run(roles: Path) -> None:
    known = tasks._scenarios(roles)
    assert known == {"database": ["default", "three"], "edge": ["default"]}
    steps = tasks._role_steps(known)
    assert [step.title for step in steps] == ["role database", "role database: three", "role edge"]
    assert [step.argv[-1] for step in steps] == ["default", "three", "default"]
    assert [step.folder.name for step in steps] == ["database", "database", "edge"]
    assert all(step.again.endswith(f"--only {step.folder.name}") for step in steps)


def test_only_runs_all_scenarios_of_the_roles_it_names_and_no_others(roles: Path) -> None:
    known = tasks._scenarios(roles)
    assert tasks._chosen("database", list(known)) == ["database"]
    assert tasks._chosen("", list(known)) == ["database", "edge"]
    with pytest.raises(BacklineError, match="no scenario for storage"):
        tasks._chosen("edge,storage", list(known))


def test_the_project_s_own_roles_are_found() -> None:
    known = tasks._scenarios()
    assert "default" in known["database"]


def test_what_unit_tests_need_is_installed_where_it_is_missing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Otherwise CI would skip tests, and nobody would notice."""
    installed: list[str] = []
    monkeypatch.setattr("backline.lab.machine.install", lambda names, *_: installed.extend(names))
    monkeypatch.setattr("shutil.which", lambda name, path: None if name == "zsh" else f"/x/{name}")
    monkeypatch.setattr(tasks, "run_all", lambda steps, at_once=1: installed.append("then tests"))
    tasks.unit(Context())
    assert installed == ["zsh", "then tests"]
