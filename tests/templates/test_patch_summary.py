"""What a restart, a reboot or a patch run says in the end, and before it begins."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest
from ansible.parsing.dataloader import DataLoader
from ansible.template import Templar, trust_as_template

SOURCE = Path(__file__).parents[2] / "playbooks/files/patch_summary.j2"


def summary(check: bool, **options: Any) -> str:
    """Of a host that has something to do, but for what `options` say."""
    seen = {"__patch_upgrades": [], "__patch_reinstall": [], "__patch_restart": [], **options}
    variables = {
        "ansible_play_hosts_all": ["stream1"],
        "ansible_check_mode": check,
        "hostvars": {"stream1": {"__patch_work": True, "__patch_app": False, **seen}},
        **{name: value for name, value in options.items() if name.startswith("patch_")},
    }
    templar = Templar(DataLoader(), variables=variables)
    return str(templar.template(trust_as_template(SOURCE.read_text(encoding="utf-8"))))


@pytest.mark.parametrize(
    ("check", "options", "said"),
    [
        (True, {"patch_reboot": "always"}, True),
        (True, {"patch_reboot": "never"}, False),
        (True, {}, False),
        (False, {"patch_reboot": "always", "__patch_rebooted": True}, True),
        (False, {"patch_reboot": "always", "__patch_rebooted": False}, False),
    ],
)
def test_a_reboot_is_told_of_before_it_and_after_it(
    check: bool, options: dict[str, Any], said: bool
) -> None:
    """A plan without it would have somebody reboot a host who meant to look."""
    line = summary(check, **options)
    assert ("rebooted" in line) is said
    assert line.startswith("stream1 ") and ("would be" in line) is check


def test_a_restart_of_the_application_is_told_of() -> None:
    assert "restarted: the application" in summary(True, __patch_app=True, patch_reboot="never")


def test_a_rehearsal_tells_what_comes_with_the_packages_and_how_old_its_news_are() -> None:
    upgrades = [{"name": "postgresql-15", "old": "15.13", "new": "15.14"}]
    lists = {"cache_update_time": time.time() - 26 * 3600}
    line = summary(True, __patch_upgrades=upgrades, __patch_lists=lists, patch_reboot="never")
    assert "what runs code of these packages" in line and "apt that are 26 h old" in line
    assert "26 h old" in summary(True, __patch_work=False, __patch_lists=lists)
    done = summary(False, __patch_upgrades=upgrades, __patch_lists=lists)
    assert "code of these" not in done and "h old" not in done
