"""What the role edge refuses: on which host, for which variable, and before it touches anything.

Every case is a host of one inventory, and its Python doesn't exist: whatever gets as far as needing the
host ends there, so that nothing of this machine can be changed and the order of things shows.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
GOOD: dict[str, Any] = {
    "edge_backends": [{"name": "stream1", "address": "198.51.100.21"}],
    "edge_certificate": "a chain and its key",
    "edge_peers": ["198.51.100.11", "198.51.100.12"],
}
FACTS = {
    "default_ipv4": {"address": "198.51.100.11"},
    "interfaces": ["lo", "eth-0"],
    "eth_0": {
        "device": "eth-0",
        "ipv4": {"address": "198.51.100.11", "network": "198.51.100.0", "prefix": "24"},
    },
}
ACME = {"edge_certificate_source": "acme", "edge_certificate": ""}
SHARED = "must be a free address in 198.51.100.0/24, the network of 198.51.100.11"

# host: what differs from GOOD. The first task that needs the host is where these end.
ACCEPTED: dict[str, dict[str, Any]] = {
    "as-it-should-be": {},
    "shared": {"edge_virtual_address": "198.51.100.10"},
    "shared-last-number": {
        "edge_virtual_address": "198.51.100.10",
        "edge_virtual_router_id": 255,
    },
    "acme": {**ACME, "edge_acme_email": "oncall@example.com"},
    "self-signed": {"edge_certificate_source": "self-signed", "edge_certificate": ""},
    "number-as-text": {"edge_https_port": "8443"},
}

# host: what differs from GOOD, and what is said.
REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "no-backends": (
        {"edge_backends": []},
        "edge_backends is empty on no-backends: an edge needs at least one streaming host",
    ),
    "no-certificate": (
        {"edge_certificate": ""},
        "edge_certificate is empty on no-certificate: give the PEM of chain and key, or set"
        " edge_certificate_source to self-signed or acme",
    ),
    "acme-no-email": (
        ACME,
        "edge_acme_email is empty on acme-no-email: edge_certificate_source is acme",
    ),
    "acme-no-names": (
        {**ACME, "edge_acme_email": "oncall@example.com", "edge_acme_names": []},
        "edge_acme_names is empty on acme-no-names: edge_certificate_source is acme",
    ),
    "foreign-address": (
        {"edge_address": "192.0.2.1"},
        "edge_address 192.0.2.1 is on no network card of foreign-address",
    ),
    "shared-elsewhere": (
        {"edge_virtual_address": "192.0.2.10"},
        f"edge_virtual_address 192.0.2.10 on shared-elsewhere {SHARED}",
    ),
    "shared-broadcast": (
        {"edge_virtual_address": "198.51.100.255"},
        f"edge_virtual_address 198.51.100.255 on shared-broadcast {SHARED}",
    ),
    "shared-with-mask": (
        {"edge_virtual_address": "198.51.100.10/24"},
        f"edge_virtual_address 198.51.100.10/24 on shared-with-mask {SHARED}",
    ),
    "shared-own": (
        {"edge_virtual_address": "198.51.100.11"},
        f"edge_virtual_address 198.51.100.11 on shared-own {SHARED}",
    ),
    "shared-peer": (
        {"edge_virtual_address": "198.51.100.12"},
        f"edge_virtual_address 198.51.100.12 on shared-peer {SHARED}",
    ),
    "number-zero": (
        {"edge_virtual_address": "198.51.100.10", "edge_virtual_router_id": 0},
        "edge_virtual_router_id 0 on number-zero must be 1 to 255",
    ),
    "number-too-high": (
        {"edge_virtual_address": "198.51.100.10", "edge_virtual_router_id": 256},
        "edge_virtual_router_id 256 on number-too-high must be 1 to 255",
    ),
}

# host: what differs from GOOD, and what Ansible says of its type; Ansible itself names the host.
MISTYPED: dict[str, tuple[dict[str, Any], str]] = {
    "port-word": ({"edge_https_port": "https"}, "'edge_https_port' is of type str"),
    "limit-list": ({"edge_rate_limit": [3000]}, "'edge_rate_limit' is of type list"),
    "haproxy-perhaps": ({"edge_haproxy": "perhaps"}, "'edge_haproxy' is of type str"),
    "source-unknown": (
        {"edge_certificate_source": "letsencrypt"},
        "value of edge_certificate_source must be one of: supplied, self-signed, acme",
    ),
    "backends-names": (
        {"edge_backends": ["stream1"]},
        "Elements value for option 'edge_backends' is of type str",
    ),
    "backends-no-address": (
        {"edge_backends": [{"name": "stream1"}]},
        "missing required arguments: address found in edge_backends",
    ),
    "backends-port": (
        {"edge_backends": [{"name": "stream1", "address": "198.51.100.21", "port": 80}]},
        "port. Supported parameters include",
    ),
    "peers-mapping": ({"edge_peers": {"edge1": "198.51.100.11"}}, "'edge_peers' is of type dict"),
}
SPEC = "Validating arguments against arg spec 'main'"
NEEDS_THE_HOST = "Check | Look for the units"


@pytest.fixture(scope="module")
def ends(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[str, str]]:
    """{host: (the task that it failed in, what was said)}, from one run of ansible-playbook."""
    folder = tmp_path_factory.mktemp("edge")
    changes = {**ACCEPTED, **{host: more for host, (more, _) in {**REFUSED, **MISTYPED}.items()}}
    nowhere = {"ansible_connection": "local", "ansible_python_interpreter": "/nonexistent/python3"}
    hosts = {host: {**nowhere, **GOOD, **more} for host, more in changes.items()}
    play = {"hosts": "all", "gather_facts": False, "roles": ["edge"]}
    for name, content in {
        "hosts.yml": {"all": {"hosts": hosts}},
        "play.yml": [play],
        "facts.yml": {"ansible_facts": FACTS},
    }.items():
        (folder / name).write_text(yaml.safe_dump(content), encoding="utf-8")
    program = Path(sys.executable).with_name("ansible-playbook")
    done = subprocess.run(
        [program, "-i", "hosts.yml", "-e", "@facts.yml", "play.yml"],
        cwd=folder,
        env={
            **os.environ,
            "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"),
            "ANSIBLE_STDOUT_CALLBACK": "ansible.posix.json",
        },
        capture_output=True,
        text=True,
    )
    assert done.stdout.lstrip().startswith("{"), done.stdout + done.stderr
    found: dict[str, tuple[str, str]] = {}
    for task in json.loads(done.stdout)["plays"][0]["tasks"]:
        for host, result in task["hosts"].items():
            assert host not in found, f"{host} went on after {found.get(host)}"
            assert not result.get("changed"), f"{host} was changed by {task['task']['name']}"
            if result.get("failed") or result.get("unreachable"):
                found[host] = (task["task"]["name"].removeprefix("edge : "), result["msg"].strip())
    return found


@pytest.mark.parametrize("host", ACCEPTED)
def test_what_is_good_gets_past_every_check(ends: dict[str, tuple[str, str]], host: str) -> None:
    assert ends[host][0] == NEEDS_THE_HOST, ends[host]


@pytest.mark.parametrize("host", REFUSED)
def test_what_cannot_work_is_refused_by_name(ends: dict[str, tuple[str, str]], host: str) -> None:
    task, said = ends[host]
    assert task.startswith("Check | ") and task != NEEDS_THE_HOST
    assert said == REFUSED[host][1]


@pytest.mark.parametrize("host", MISTYPED)
def test_a_wrong_type_is_refused_by_name(ends: dict[str, tuple[str, str]], host: str) -> None:
    task, said = ends[host]
    assert task.startswith(SPEC), ends[host]
    assert MISTYPED[host][1] in said


def test_every_check_of_the_role_has_a_case(ends: dict[str, tuple[str, str]]) -> None:
    tasks = yaml.safe_load((ROOT / "roles/edge/tasks/check.yml").read_text(encoding="utf-8"))
    checks = {task["name"] for task in tasks if "ansible.builtin.assert" in task}
    assert checks == {ends[host][0] for host in REFUSED}
