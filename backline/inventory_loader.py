"""Asks Ansible who is in an inventory; run as a program, since importing Ansible takes half a second.

`python -m backline.inventory_loader FOLDER [static]` prints one JSON object: hosts in inventory order, each
group's hosts (its children's included) and the few variables that the tasks need, templated by
Ansible itself. Other variables, which may be secrets, never leave this process. `static`: no file in
it names a plugin, so that Ansible need not look for one; that takes as long as reading a file anew.
"""

from __future__ import annotations

import json
import sys
from typing import Any

WANTED = (
    "ansible_host",
    "ansible_port",
    "ansible_ssh_private_key_file",
    "ansible_user",
    "backline_ssh_private_key_file",
    "backline_user",
    "fleet_address",
    "zone",
)
SHARED = (
    *("backline_confirm_changes", "hostctl_allowed_signers", "release_signers"),
    *(
        "rollout_balancers",
        "rollout_batches",
        "rollout_budget",
        "rollout_by",
        "rollout_deadline",
        "rollout_floor",
    ),
    *("rollout_hooks", "rollout_origin", "rollout_passes", "rollout_probe_ca"),
    *("rollout_probe_connect", "rollout_probe_rate", "rollout_probe_url", "rollout_soak"),
    *("rollout_unsure", "rollout_warm"),
)


def main(folder: str, static: bool) -> int:
    """Prints the inventory in `folder`; 1 and a message on stderr when Ansible cannot read it."""
    from ansible.errors import AnsibleError

    try:
        sys.stdout.write(json.dumps(read(folder, static)))
    except AnsibleError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


def read(folder: str, static: bool = False) -> dict[str, Any]:
    """Hosts, groups and shared settings of the inventory in `folder`; raises AnsibleError."""
    from ansible import constants
    from ansible.cli import CLI
    from ansible.inventory.manager import InventoryManager
    from ansible.parsing.dataloader import DataLoader
    from ansible.plugins.loader import init_plugin_loader
    from ansible.vars.manager import VariableManager

    if static:
        constants.INVENTORY_ENABLED = [p for p in constants.INVENTORY_ENABLED if p != "auto"]
    init_plugin_loader([])  # or lookups by their full names are not found
    loader = DataLoader()
    loader.set_vault_secrets(
        CLI.setup_vault_secrets(loader, constants.DEFAULT_VAULT_IDENTITY_LIST, auto_prompt=False)
    )
    inventory = InventoryManager(loader=loader, sources=[folder])
    variables = VariableManager(loader=loader, inventory=inventory)
    hosts: list[dict[str, Any]] = []
    shared: dict[str, Any] = {}
    for host in inventory.get_hosts("all"):
        values = variables.get_vars(host=host, include_hostvars=False)
        hosts.append({"name": host.name, **_pick(loader, values, WANTED)})
        shared = shared or _pick(loader, values, SHARED)
    groups = {
        name: [host.name for host in group.get_hosts()]
        for name, group in inventory.groups.items()
        if name not in ("all", "ungrouped")
    }
    return {"hosts": hosts, "groups": groups, "shared": shared}


def _pick(loader: Any, values: dict[str, Any], names: tuple[str, ...]) -> dict[str, Any]:
    """The values of `names` that are set, templated; one that cannot be templated counts as unset."""
    from ansible.errors import AnsibleError
    from ansible.template import Templar

    templar = Templar(loader=loader, variables=values)
    picked = {}
    for name in names:
        if values.get(name) is not None:
            try:
                picked[name] = json.loads(json.dumps(templar.template(values[name]), default=str))
            except AnsibleError:
                continue
    return picked


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], "static" in sys.argv[2:]))
