"""Venvs: offline, right for the place they are renamed to, and quick when nothing changed."""

from __future__ import annotations

import importlib.metadata
import subprocess

import pytest

from .fake_host import R1, R2, Lab, make_wheel


def stage(lab: Lab, release: str, *wheels: tuple[str, bytes]) -> None:
    lab.upload(release, wheels=wheels)
    lab.take()
    lab.ok("stage", release=release)


def test_scripts_data_and_metadata_are_where_pip_would_put_them(lab: Lab) -> None:
    stage(lab, R1, make_wheel())
    venv = lab.releases / R1 / "venv"
    for script, said in (("greet", f"hello {venv}\n"), ("greet-tool", "tool\n")):
        text = (venv / "bin" / script).read_text()
        assert text.startswith(f"#!{venv}/bin/python\n")
        ended = subprocess.run([venv / "bin" / script], capture_output=True, text=True, check=True)
        assert ended.stdout == said
    assert (venv / "share/greet.txt").read_text() == "data\n"
    site_packages = next(venv.glob("lib/python*/site-packages"))
    found = importlib.metadata.Distribution.at(site_packages / "greet-1.0.dist-info")
    listed = found.files or []
    assert all(file.locate().exists() for file in listed) and len(listed) == 9
    assert not any("partial" in str(file) for file in listed)


def test_bytecode_is_compiled_for_the_final_place(lab: Lab) -> None:
    stage(lab, R1, make_wheel())
    compiled = list((lab.releases / R1).rglob("__pycache__/*.pyc"))
    names = {path.name.split(".")[0] for path in compiled}
    assert {"__init__", "manage"} <= names
    for path in compiled:
        assert b".partial" not in path.read_bytes()


def test_the_same_wheels_are_linked_not_built_again(lab: Lab) -> None:
    stage(lab, R1, make_wheel())
    stage(lab, R2, make_wheel())
    modules = [next((lab.releases / r).glob("venv/lib/*/*/greet/__init__.py")) for r in (R1, R2)]
    assert modules[0].samefile(modules[1])
    said = subprocess.run(
        [lab.releases / R2 / "venv/bin/greet"], capture_output=True, text=True, check=True
    )
    assert said.stdout == f"hello {lab.releases / R2}/venv\n"
    assert (lab.releases / R2 / "venv/share/greet.txt").exists()


def test_other_wheels_are_not_linked(lab: Lab) -> None:
    stage(lab, R1, make_wheel())
    stage(lab, R2, make_wheel("other"))
    venv = lab.releases / R2 / "venv"
    assert (venv / "bin/other").exists() and not (venv / "bin/greet").exists()


@pytest.mark.parametrize(
    "wheel",
    [
        make_wheel(tag="cp311-cp311-manylinux2014_s390x"),
        make_wheel(**{"../../evil": b"x"}),
        make_wheel(**{"/etc/evil": b"x"}),
        make_wheel(**{"greet-1.0.dist-info/entry_points.txt": b"[console_scripts]\nx = os;a:b\n"}),
        make_wheel(**{"greet-1.0.data/odd/x": b"x"}),
        make_wheel(**{"second-1.0.dist-info/METADATA": b"x"}),
        ("broken-1.0-py3-none-any.whl", b"not a zip"),
    ],
)
def test_a_wheel_that_cannot_be_installed_leaves_nothing(
    lab: Lab, wheel: tuple[str, bytes]
) -> None:
    lab.upload(wheels=(wheel,))
    lab.take()
    assert lab.refused("stage", release=R1) == (1, "bad_wheel")
    assert list(lab.releases.iterdir()) == []
    assert not list(lab.root.rglob("evil"))
