"""Which units a restart finds on a host, and what is done with each."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible.parsing.dataloader import DataLoader
from ansible.template import Templar, trust_as_template

TASKS = Path(__file__).parents[2] / "playbooks/tasks/patch"
# As `systemctl list-units --plain --no-legend` says it: of units that are stopped it says nothing.
LISTED = """broker-metrics.service loaded activating auto-restart Metrics that die over and over
chrony.service loaded failed failed chrony, an NTP client/server
haproxy.service loaded active running HAProxy Load Balancer
nginx.service loaded failed failed A high performance web server
tor.service loaded active running the failed one's neighbour
"""


def task(page: str, name: str) -> dict[str, Any]:
    """A task of a file of tasks, by the end of its name."""
    tasks = yaml.safe_load((TASKS / page).read_text(encoding="utf-8"))
    (found,) = [one for one in tasks if one["name"].endswith(name)]
    return dict(found)


def said(template: str, **variables: Any) -> Any:
    return Templar(DataLoader(), variables=variables).template(trust_as_template(template))


def found() -> dict[str, Any]:
    """What the look says of that host."""
    facts = task("look.yml", "Decide")["ansible.builtin.set_fact"]
    running = {"stdout_lines": LISTED.splitlines()}
    return {
        name: said(facts[name], __patch_running=running)
        for name in ("__patch_restart", "__patch_failed")
    }


def test_a_host_on_which_the_service_has_failed_is_not_left_out() -> None:
    """A unit that failed, or that systemd starts over and over, is what one restarts at night; that it
    does not run is no reason to leave it."""
    looked = task("look.yml", "try to, or have failed")["ansible.builtin.command"]["argv"]
    argv = said(looked, __patch_units=["nginx", "chrony.service"])
    assert "--state=active,reloading,activating,failed" in argv and argv[-2:] == [
        "nginx.service",
        "chrony.service",
    ]
    assert found() == {
        "__patch_restart": [
            *("broker-metrics.service", "chrony.service", "haproxy.service", "nginx.service"),
            "tor.service",
        ],
        "__patch_failed": ["broker-metrics.service", "chrony.service", "nginx.service"],
    }


def test_what_has_failed_is_started_once_and_before_gentler_ways_are_tried() -> None:
    """nginx-upgrade hands over from an nginx that runs: of one that does not it would make nothing."""
    facts = {**found(), "group_names": [], "inventory_hostname": "edge1", "groups": {}}
    facts |= {"__patch_refreshed": facts["__patch_restart"], "__patch_of_database": []}
    names = [one["name"] for one in yaml.safe_load((TASKS / "refresh.yml").read_text())]
    order = [next(n for n in names if part in n) for part in ("had failed", "new nginx", "gentler")]
    assert sorted(order, key=names.index) == order
    started = said(task("refresh.yml", "died over and over")["loop"], **facts)
    assert started == ["broker-metrics.service", "chrony.service", "nginx.service"]
    rest = task("refresh.yml", "Restart what has no gentler way")
    proxies = rest["vars"]["__patch_haproxies"]
    assert said(rest["loop"], **facts, __patch_haproxies=proxies) == ["tor.service"]


@pytest.mark.parametrize(
    ("options", "groups", "restarted", "booted", "left"),
    [
        ({}, {"media": ["m1", "m2"]}, ["cron.service", "nginx.service"], True, False),
        ({}, {"media": ["m1"]}, ["cron.service", "nginx.service"], False, True),
        ({"patch_reboot": "never"}, {}, ["cron.service", "nginx.service"], False, True),
        ({"patch_packages": False, "patch_reboot": "never"}, {}, ["nginx.service"], False, True),
        ({"patch_reboot": "always"}, {"media": ["m1"]}, [*("cron.service", "nginx.service")], True, False),
    ],
)  # fmt: skip
def test_a_rehearsal_tells_of_restarts_and_reboots_that_nobody_named(
    options: dict[str, Any], groups: dict[str, Any], restarted: list[str], booted: bool, left: bool
) -> None:
    """They are what hurts: PostgreSQL that runs an old library, a kernel that waits."""
    facts: dict[str, Any] = {
        "__patch_restart": ["nginx.service"],
        "__patch_stale": {"stdout": '{"restart": ["cron.service"], "reboot": ["init.scope"]}'},
        "__patch_reboot": {"stdout_lines": ["kernel 6.1.0-42"]},
        "groups": groups,
        "group_names": list(groups),
        **options,
    }
    ours = yaml.safe_load((TASKS.parents[1] / "group_vars/all.yml").read_text(encoding="utf-8"))
    facts["__patch_alone"] = said(ours["__patch_alone"], **facts)
    for name in ("restarted, and why", "Foresee whether"):
        foresees = next(
            one for one in yaml.safe_load((TASKS / "look.yml").read_text()) if name in one["name"]
        )
        assert foresees["when"] == "ansible_check_mode", "the run itself finds out"
        for key, template in foresees["vars"].items():
            facts[key] = said(template, **facts)
        for key, template in foresees["ansible.builtin.set_fact"].items():
            facts[key] = said(template, **facts)
    assert facts["__patch_refreshed"] == restarted
    assert (facts["__patch_rebooted"], facts["__patch_reboot_left"]) == (booted, left)
    assert facts["__patch_reboot_why"] == "kernel 6.1.0-42"
