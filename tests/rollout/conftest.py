"""The fleet for tests of rollouts: lab `lab-chaos`, or one that is up already (`--env`)."""

from tests.chaos.conftest import fleet, made, pytest_addoption

__all__ = ["fleet", "made", "pytest_addoption"]
