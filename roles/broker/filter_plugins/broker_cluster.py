"""Which nodes form the cluster, which join it and which leave, from what the hosts have on disk."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

NODE = re.compile(r"rabbit@[A-Za-z0-9._-]+")
EMPTY = (
    "To empty one, which loses what it holds: "
    "systemctl stop rabbitmq-server; rm -r /var/lib/rabbitmq/mnesia"
)


def broker_cluster(hosts: list[dict[str, str]], members: list[str]) -> dict[str, Any]:
    """Return {problem, new, blank, wiped, leaving}: a problem in words or "", and lists of names.

    hosts: of each host in the play its name, version of RabbitMQ ("" when not known) and data, the
    lines "<folder of a node>:<the nodes it knows>" of cluster_nodes.config. members: the names that
    the inventory wants.
    new: whether no host has data. blank: hosts that have none. wiped: those of them that the
    cluster takes for members. leaving: nodes of the cluster that are not wanted any more.
    """
    views = {host["name"]: _view(host["data"]) for host in hosts}
    data = {name: view[name] for name, view in views.items() if name in view}
    known = set().union(*data.values())
    blank = [name for name in members if name in views and name not in data]
    plan: dict[str, Any] = {
        "problem": "",
        "new": not data,
        "blank": blank,
        "wiped": [name for name in blank if name in known],
        "leaving": sorted(known - set(members)),
    }
    plan["problem"] = (
        _strangers(views)
        or _foreign(data)
        or _lost(data, known, plan)
        or _absent(views, members, plan)
        or _mixed(hosts)
    )
    return plan


def _view(text: str) -> dict[str, set[str]]:
    """{node: nodes it knows} of every node that left data on a host."""
    found: dict[str, set[str]] = {}
    for line in text.splitlines():
        folder, _, nodes = line.partition(":")
        own = NODE.search(folder)
        if own:
            found[_name(own[0])] = {_name(node) for node in NODE.findall(nodes)}
    return found


def _name(node: str) -> str:
    return node.removeprefix("rabbit@")


def _strangers(views: dict[str, dict[str, set[str]]]) -> str:
    """A host that was another node would start anew and leave that node's messages behind."""
    for name, view in views.items():
        others = sorted(set(view) - {name})
        if others:
            old = others[0]
            return (
                f"{name} has the data of another node, {old}. To leave what that holds behind: "
                f"systemctl stop rabbitmq-server; rm -r /var/lib/rabbitmq/mnesia/rabbit@{old}*"
            )
    return ""


def _foreign(data: dict[str, set[str]]) -> str:
    """Two clusters never become one. Nor does a node return that was taken out."""
    for name, nodes in data.items():
        for other in data:
            if other not in nodes:
                return (
                    f"{other} has the data of the cluster {_list(data[other])}, which is not that of "
                    f"{name}: {_list(nodes)}. {EMPTY}"
                )
    return ""


def _lost(data: dict[str, set[str]], known: set[str], plan: dict[str, Any]) -> str:
    """Whoever takes nodes out speaks for a majority, or it is somebody else's cluster."""
    if not plan["leaving"] and not plan["wiped"]:
        return ""
    if len(data) * 2 > len(known):
        return ""
    return (
        f"the cluster is {_list(known)}, and only {_list(set(data))} would be left of it, which is no "
        "majority. Run it for all members at once, and replace one at a time. A host that is to leave "
        f"that cluster for another has to be empty. {EMPTY}"
    )


def _absent(views: dict[str, Any], members: list[str], plan: dict[str, Any]) -> str:
    """Without the others at hand a host without data would found a cluster of its own."""
    if not plan["new"] or set(members) <= set(views):
        return ""
    return (
        f"{_list(set(views))} has no data yet, and {_list(set(members) - set(views))} is not in this "
        "run: run it for all members at once"
    )


def _mixed(hosts: list[dict[str, str]]) -> str:
    """Nodes of one version understand each other; Debian's own revisions of it do, too."""
    versions = {
        host["name"]: host["version"].rpartition("-")[0] for host in hosts if host["version"]
    }
    if len(set(versions.values())) <= 1:
        return ""
    told = ", ".join(f"{version} on {name}" for name, version in versions.items())
    return f"RabbitMQ is {told}. Bring all of them to one version first, one after the other"


def _list(names: set[str]) -> str:
    return ", ".join(sorted(names))


class FilterModule:
    """What Ansible loads."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        """Return the filters of this file by name."""
        return {"broker_cluster": broker_cluster}
