"""Judges what module database_state found: what must be refused, and which members come and go.

Pure: what goes in are the states of the cluster's hosts in this play and the members that the
inventory names. Every refusal says what is wrong, where, and what to do.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

State = dict[str, Any]
Member = dict[str, Any]
GROW = "docs/how-to/grow-the-database.md"
REPLACE = "docs/how-to/replace-a-database-host.md"


def database_refusals(states: list[State], members: list[Member]) -> list[str]:
    """Return why this cluster must not be touched, one sentence or two for each reason; [] if it may.

    states: `state` of module database_state, of each host of the cluster that is in the play.
    members: name and address of every member there should be.
    """
    judges = (scopes, versions, patroni_versions, foreign_data, etcd_membership)
    return [refusal for judge in judges for refusal in judge(states, members)]


def database_plan(states: list[State], members: list[Member]) -> dict[str, Any]:
    """Return how etcd's members become the wanted ones.

    new: whether there is no cluster yet. join: names of hosts to add, in the inventory's order.
    leave: whether anybody has to be removed. keeper: the host of the play that asks and tells etcd.
    """
    known = reference(states)
    data = {state["name"] for state in states if state["etcd_data"]}
    playing = [member["name"] for member in members if member["name"] in by_name(states)]
    new = known is None and not data
    old = [name for name in playing if name in data]
    return {
        "new": new,
        "join": [] if new else [name for name in playing if name not in data],
        "leave": bool(unwanted(known, states, members)),
        "keeper": (old or playing or [""])[0],
    }


def scopes(states: list[State], members: list[Member]) -> Iterator[str]:
    """Hosts, or addresses, that belong to a cluster of another name."""
    for state in states:
        name, scope = state["name"], state["scope"]
        if state["patroni_scope"] not in ("", scope):
            yield (
                f"{name} belongs to the cluster {state['patroni_scope']!r} (/etc/patroni/patroni.yml), "
                f"not to {scope!r}. If it has left that one for good: stop patroni and etcd there, and move "
                f"/etc/patroni, /var/lib/etcd and /var/lib/postgresql/{state['version']} away."
            )
        for other in state["etcd_scopes"]:
            yield (
                f"{name} has etcd's data of the cluster {other!r} (/var/lib/etcd/{other}), not of {scope!r}. "
                "If it has left that one for good: stop etcd there and move that folder away."
            )
    for name, answer in answers(states, "patroni").items():
        if answer["scope"] != states[0]["scope"]:
            yield (
                f"The Patroni at {name}'s address runs the cluster {answer['scope']!r}, not "
                f"{states[0]['scope']!r}: correct database_members or database_scope."
            )


def versions(states: list[State], members: list[Member]) -> Iterator[str]:
    """Another major version of PostgreSQL, wanted, on disk or running."""
    wanted = {state["version"] for state in states}
    if len(wanted) > 1:
        each = ", ".join(f"{state['name']} {state['version']}" for state in states)
        yield (
            f"Members are to run different versions of PostgreSQL ({each}): "
            "database_postgresql_version has to be the same for all of them."
        )
        return
    for state in states:
        for data in state["other_data"]:
            yield (
                f"{state['name']} has data of PostgreSQL {data['version']} in {data['path']}, and is to run "
                f"{state['version']}: a new major version is not this role's to bring in. Set "
                f"database_postgresql_version to {data['version']}, or move the folder away if it is not "
                "needed."
            )
    for name, answer in answers(states, "patroni").items():
        major = answer["server_version"] // 10000
        if major and {major} != wanted:
            yield (
                f"{name} runs PostgreSQL {major}, and members are to run {wanted.pop()}: all members of a "
                "cluster run the same major version. Set database_postgresql_version accordingly."
            )
            return


def patroni_versions(states: list[State], members: list[Member]) -> Iterator[str]:
    """Members outside of this play that would be left behind with another Patroni."""
    if not states:
        return
    wanted = states[0]["patroni_wanted"]
    for name, answer in answers(states, "patroni").items():
        if name not in by_name(states) and answer["version"] != wanted:
            yield (
                f"{name} runs Patroni {answer['version']} and is not in this play, which brings {wanted}: "
                "members would run different versions. Run it for all members (no --limit)."
            )


def foreign_data(states: list[State], members: list[Member]) -> Iterator[str]:
    """PostgreSQL's data that is another cluster's, or nobody's that is known."""
    running = {
        name: answer["system_identifier"]
        for name, answer in answers(states, "patroni").items()
        if answer["system_identifier"] and answer["scope"] == states[0]["scope"]
    }
    on_disk = {
        state["name"]: state["data"]["system_identifier"]
        for state in states
        if state["data"]["system_identifier"]
    }
    known = set(running.values())
    if len(known or set(on_disk.values())) > 1:
        each = ", ".join(f"{name} {one}" for name, one in sorted((running or on_disk).items()))
        yield (
            f"Members hold data of different clusters (system identifiers: {each}): they were made apart. "
            "Keep the one that counts; on the others stop patroni and move the data folder away, so that "
            "they copy it."
        )
        return
    for state in states:
        data, name, path = state["data"], state["name"], state["data"]["path"]
        ours = state["patroni_scope"] == state["scope"] or data["patroni"]
        if data["entries"] and not data["version"]:
            yield (
                f"{path} on {name} is not empty ({', '.join(data['some'])}) and holds no cluster of "
                "PostgreSQL. Look what it is and move it away."
            )
        elif known and data["system_identifier"] and data["system_identifier"] not in known:
            yield (
                f"{path} on {name} is another cluster's data (system identifier {data['system_identifier']}; "
                f"this cluster has {', '.join(known)}). If {name} is to copy this cluster's, stop patroni "
                "there and move the folder away."
            )
        elif data["version"] and not known and not ours:
            yield (
                f"{path} on {name} holds a cluster of PostgreSQL that Patroni has never run "
                f"(system identifier {data['system_identifier'] or 'unknown'}). Move it away; to begin with "
                "its data, restore it into the new cluster."
            )


def etcd_membership(states: list[State], members: list[Member]) -> Iterator[str]:
    """What would leave etcd with two clusters, or without a majority."""
    clusters = {name: answer["cluster"] for name, answer in answers(states, "etcd").items()}
    if len(set(clusters.values())) > 1:
        each = ", ".join(f"{name} {cluster}" for name, cluster in sorted(clusters.items()))
        yield (
            f"etcd's members are of different clusters ({each}). Keep the one that Patroni's leader uses; "
            "on the others stop patroni and etcd and move /var/lib/etcd away, so that they join."
        )
        return
    for state in states:
        if state["etcd_plain"] and len(members) > 1:
            yield (
                f"etcd on {state['name']} talks to its members without TLS, and members cannot be moved over "
                f"one by one. Leave one host in the inventory, run this, then grow again ({GROW})."
            )
    known = reference(states)
    if known is None:
        yield from beginning(states, members)
        return
    yield from strangers(known, states)
    yield from leaving(known, states, members)
    yield from unsafe(known, states, members)


def beginning(states: list[State], members: list[Member]) -> Iterator[str]:
    """What must be in the play when no etcd answers."""
    without = [state["name"] for state in states if not state["etcd_data"]]
    absent = [member["name"] for member in members if member["name"] not in by_name(states)]
    if len(without) == len(states) and absent:
        yield (
            f"A new cluster begins with all of its members, and {', '.join(absent)} is not in this play "
            "(left out, or unreachable)."
        )
    elif without and len(without) < len(states):
        yield (
            f"etcd answers on none of the members, so that {', '.join(without)} cannot join. "
            "Start it where its data is: systemctl start etcd"
        )


def strangers(known: dict[str, Any], states: list[State]) -> Iterator[str]:
    """Hosts with data of an etcd that does not count them among its members."""
    for state in states:
        mine = state["peers"].get(state["name"])
        listed = any(
            one["name"] == state["name"] or mine in one["peers"] for one in known["members"]
        )
        if state["etcd_data"] and not listed:
            yield (
                f"{state['name']} has etcd's data (/var/lib/etcd/{state['scope']}) and is not a member: it "
                f"was removed, or belongs to another cluster. Members are {names(known['members'])}. If it "
                "is to join as a new host, stop patroni and etcd there and move that folder away."
            )


def leaving(known: dict[str, Any], states: list[State], members: list[Member]) -> Iterator[str]:
    """Members that still serve and that the inventory does not name."""
    for one in unwanted(known, states, members):
        if one["serves"]:
            yield (
                f"{names([one])} is a member and serves, and database_members does not name it. If it is to "
                f"go: systemctl disable --now patroni etcd there, then run this again ({REPLACE})."
            )


def unsafe(known: dict[str, Any], states: list[State], members: list[Member]) -> Iterator[str]:
    """Changes of members for which there is no majority, or no host in the play."""
    plan = database_plan(states, members)
    listed = {one["name"] for one in known["members"]}
    absent = [
        member["name"]
        for member in members
        if member["name"] not in listed and member["name"] not in by_name(states)
    ]
    if absent:
        yield (
            f"{', '.join(absent)} is to become a member and is not in this play (left out, or unreachable): "
            "run it for all members (no --limit)."
        )
    voters = [one for one in known["members"] if not one["learner"]]
    serving = [one for one in voters if one["serves"]]
    if (plan["join"] or plan["leave"]) and len(serving) <= len(voters) // 2:
        yield (
            f"etcd has no majority ({names(serving) or 'nobody'} of {names(voters)} serves), so that no "
            "member can be added or removed. Bring one of the others back first."
        )


def reference(states: list[State]) -> dict[str, Any] | None:
    """Return the answer of an etcd that knows the most: one that sees a majority serve, if there is one."""
    found = sorted(
        answers(states, "etcd").values(),
        key=lambda answer: sum(bool(one["serves"]) for one in answer["members"]),
    )
    return found[-1] if found else None


def unwanted(
    known: dict[str, Any] | None, states: list[State], members: list[Member]
) -> list[dict[str, Any]]:
    """Return etcd's members that are none of the wanted."""
    wanted = {member["name"] for member in members}
    urls = {url for state in states for url in state["peers"].values()}
    return [
        one
        for one in (known["members"] if known else [])
        if one["name"] not in wanted and (one["name"] or not urls & set(one["peers"]))
    ]


def answers(states: list[State], daemon: str) -> dict[str, Any]:
    """Return what a daemon of each member answered, by the member's name: to itself before others."""
    found: dict[str, Any] = {}
    for state in states:
        for name, answer in state["seen"][daemon].items():
            if answer is not None and (name not in found or name == state["name"]):
                found[name] = answer
    return found


def by_name(states: list[State]) -> dict[str, State]:
    """Return the states by their host's name as a member."""
    return {state["name"]: state for state in states}


def names(members: list[dict[str, Any]]) -> str:
    """Return how to call members: one that has not started has an address only."""
    return ", ".join(one["name"] or ", ".join(one["peers"]) for one in members)


class FilterModule:
    """What Ansible loads."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        """Return the filters of this file by name."""
        return {"database_refusals": database_refusals, "database_plan": database_plan}
