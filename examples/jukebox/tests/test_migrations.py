"""Migrations may run twice, and beside the release before."""

from __future__ import annotations

from io import StringIO

import pytest
from django.core.management import call_command


@pytest.mark.django_db
def test_models_and_migrations_agree() -> None:
    call_command("makemigrations", check=True, dry_run=True, stdout=StringIO())


@pytest.mark.django_db(transaction=True)
def test_migrating_again_is_harmless() -> None:
    out = StringIO()
    call_command("migrate", interactive=False, stdout=out)
    assert "No migrations to apply" in out.getvalue()


def test_settings_are_fit_for_production() -> None:
    out = StringIO()
    # HSTS and the redirect from plain HTTP are the edge's.
    call_command("check", deploy=True, fail_level="WARNING", stdout=out, stderr=out)
