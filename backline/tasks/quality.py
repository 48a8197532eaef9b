"""Lint and format."""

from __future__ import annotations

from pathlib import Path

from invoke.context import Context

from backline.tasks.command import command
from backline.tasks.steps import BIN, Step, run_all


def lint_steps() -> list[Step]:
    """Everything that reads the project without running it."""
    return [
        Step("ruff", [BIN / "ruff", "check", "."], again="inv fmt, then inv lint"),
        Step("ruff format", [BIN / "ruff", "format", "--check", "."], again="inv fmt"),
        Step("mypy --strict", [BIN / "mypy"], again="inv lint"),
        Step("yamllint", [BIN / "yamllint", "--strict", "."], again="inv lint"),
        Step(
            "ansible-lint (production)",
            [BIN / "ansible-lint", "--offline", "--profile=production", "--nocolor"],
            again="inv lint",
        ),
    ]


@command()
def lint(c: Context) -> None:
    """Check style, types, YAML and roles: ruff, mypy --strict, yamllint, ansible-lint."""
    run_all(lint_steps())


@command()
def fmt(c: Context) -> None:
    """Format the Python code and mend what ruff can mend."""
    run_all(
        [
            Step("ruff --fix", [BIN / "ruff", "check", "--fix", "."]),
            Step("ruff format", [BIN / "ruff", "format", "."]),
        ]
    )


@command(help={"upgrade": "take the newest versions that are allowed"})
def lock(c: Context, upgrade: bool = False) -> None:
    """Write the locks anew, with every package's hashes: ours, the checkers', the benchmark's peers'."""
    words: list[str | Path] = [BIN / "uv", "pip", "compile", "--quiet", "--universal"]
    words += ["--python-version", "3.11", "--generate-hashes", "--no-header"]
    words += ["--no-emit-index-url", *(["--upgrade"] if upgrade else [])]
    others = ("tests/audit", "tests/bench")
    run_all(
        [
            Step(
                "requirements.lock",
                [*words, "--extra", "dev", "pyproject.toml", "-o", "requirements.lock"],
            ),
            *(
                Step(
                    f"{place}/requirements.lock",
                    [
                        *(*words, "--no-annotate", f"{place}/requirements.in"),
                        *("-o", f"{place}/requirements.lock"),
                    ],
                )
                for place in others
            ),
        ]
    )
