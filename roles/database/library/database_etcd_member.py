#!/usr/bin/python3
"""Members of an etcd cluster come and go one at a time, and only while a majority is healthy."""

from __future__ import annotations

from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.database_etcd import (
    TLS_OPTIONS,
    Etcd,
    EtcdError,
    Member,
    again,
    become_root,
    context,
    failure,
    spare,
)

DOCUMENTATION = """
module: database_etcd_member
short_description: Adds and removes members of an etcd cluster
description:
  - A new member is added as a learner, which has no vote and endangers no majority, and gets its vote once
    it has what the others have.
options:
  state:
    description:
      - C(joining) adds this host, which has no data yet, as a learner. Who had its name or address before is
        removed. Returns what etcd has to be started with.
      - C(voting) gives the learner its vote.
      - C(present) corrects the peer address that the members know this host by.
      - C(absent) removes the members that are not in wanted, unless they still serve.
      - C(serving) waits until each of endpoints serves, which it only does with a majority.
    choices: [joining, voting, present, absent, serving]
    required: true
    type: str
  name: {description: This host's name as a member., required: true, type: str}
  peer_url: {description: Where the others reach it., required: true, type: str}
  endpoints: {description: Client URLs of the members to ask., required: true, type: list, elements: str}
  wanted: {description: Names of all members that there should be., default: [], type: list, elements: str}
  wanted_urls: {description: Their peer URLs., default: [], type: list, elements: str}
  password: {description: "Password of root, for when authentication is enabled.", required: true, type: str}
  remembered:
    description: File with a line ETCDCTL_PASSWORD=..., root's password of before.
    type: path
    required: true
  tls: {description: "Paths of ca, certificate and key.", required: true, type: dict}
  seconds: {description: How long to wait for the others to be ready for the change., default: 60, type: int}
author: Backline
"""
EXAMPLES = """
- database_etcd_member:
    {state: joining, name: db2, peer_url: "https://198.51.100.32:2380", endpoints: ["https://198.51.100.31:2379"],
     password: "{{ secret }}", remembered: /etc/etcd/etcdctl.env, tls: "{{ database_tls }}"}
"""
RETURN = """
initial_cluster: {description: "ETCD_INITIAL_CLUSTER of the new member.", type: str, returned: when joining}
removed: {description: Names of the members that were removed., type: list, returned: always}
"""


STATES = ["joining", "voting", "present", "absent", "serving"]


class Refused(Exception):
    """A change that would be unsafe; the message says why and what to do."""


def same_host(member: Member, name: str, peer_url: str) -> bool:
    """Whether a member is, or was, the host of that name or address."""
    return member["name"] == name or peer_url in member["peers"]


def label(member: Member) -> str:
    """What to call a member: one that never started has no name yet."""
    return str(member["name"] or ", ".join(member["peers"]))


def remove(etcd: Etcd, members: list[Member], member: Member) -> list[Member]:
    """Remove one member and return those that are left. Raises Refused when that is unsafe."""
    healthy = {one["id"] for one in members if etcd.healthy(one)}
    if member["id"] in healthy:
        raise Refused(
            f"{label(member)} still serves as a member: stop it there first "
            "(systemctl disable --now patroni etcd), then run this again"
        )
    if not spare(members, healthy, member["id"]):
        raise Refused(
            f"{label(member)} cannot be removed: without it there is no healthy majority of "
            f"{', '.join(label(one) for one in members if one['id'] != member['id'])}. "
            "Bring one of them back first"
        )
    again(lambda: etcd.call("/cluster/member/remove", {"ID": member["id"]}), 10)
    return [one for one in members if one["id"] != member["id"]]


def joining(etcd: Etcd, name: str, peer_url: str, seconds: int) -> tuple[str, list[str]]:
    """Add this host as a learner; return its ETCD_INITIAL_CLUSTER and who was removed for it."""
    removed = []
    members = etcd.members()
    mine = [one for one in members if same_host(one, name, peer_url)]
    # A learner that never started is what an earlier run left: it is used.
    waiting = [one for one in mine if one["learner"] and not one["name"]]
    for member in mine:
        if member not in waiting:
            members = remove(etcd, members, member)
            removed.append(label(member))
    if not waiting:
        body = {"peerURLs": [peer_url], "isLearner": True}
        # "unhealthy cluster" until every voter has been connected for some seconds.
        answer = again(lambda: etcd.call("/cluster/member/add", body), seconds)
        members = [*members, {"name": "", "peers": answer["member"]["peerURLs"]}]
    pairs = [
        f"{name if peer_url in member['peers'] else member['name']}={url}"
        for member in members
        for url in member["peers"]
    ]
    return ",".join(pairs), removed


def voting(etcd: Etcd, name: str, seconds: int, dry: bool) -> bool:
    """Give the learner its vote once it is in step with the leader; return whether it had none."""
    mine = [one for one in etcd.members() if one["name"] == name]
    if not mine:
        raise Refused(f"{name} is not a member: see journalctl -u etcd there")
    if not mine[0]["learner"]:
        return False
    if not dry:
        again(lambda: etcd.call("/cluster/member/promote", {"ID": mine[0]["id"]}), seconds)
    return True


def present(etcd: Etcd, name: str, peer_url: str, dry: bool) -> bool:
    """Correct the address by which the others know this member; return whether it was another."""
    mine = [one for one in etcd.members() if one["name"] == name]
    if not mine or mine[0]["peers"] == [peer_url]:
        return False
    if not dry:
        etcd.call("/cluster/member/update", {"ID": mine[0]["id"], "peerURLs": [peer_url]})
    return True


def absent(etcd: Etcd, wanted: list[str], urls: list[str], dry: bool) -> list[str]:
    """Remove members that nobody wants, one at a time; return their names."""
    removed = []
    members = etcd.members()
    for member in [one for one in members if one["name"] not in wanted]:
        # A learner that has not started yet has no name: it is known by its address.
        if not member["name"] and set(member["peers"]) & set(urls):
            continue
        removed.append(label(member))
        if not dry:
            members = remove(etcd, members, member)
    return removed


def serving(etcd: Etcd, seconds: int) -> None:
    """Return when each endpoint serves; raise EtcdError when time is up."""

    def look() -> None:
        silent = [url for url in etcd.endpoints if not etcd.healthy({"clients": [url]})]
        if silent:
            raise EtcdError(f"{', '.join(silent)} does not serve: see journalctl -u etcd there")

    again(look, seconds)


def run(module: AnsibleModule) -> dict[str, Any]:
    """Do what the parameters say and return the module's result."""
    given = module.params
    tls = given["tls"]
    etcd = Etcd(given["endpoints"], context(tls["ca"], tls["certificate"], tls["key"]))
    if given["state"] == "serving":
        serving(etcd, given["seconds"])
        return {"changed": False, "removed": []}
    become_root(etcd, given["password"], given["remembered"], 10)
    name, peer_url, dry = given["name"], given["peer_url"], module.check_mode
    if given["state"] == "joining":
        if dry:
            return {"changed": True, "initial_cluster": "", "removed": []}
        pairs, removed = joining(etcd, name, peer_url, given["seconds"])
        return {"changed": True, "initial_cluster": pairs, "removed": removed}
    if given["state"] == "voting":
        return {"changed": voting(etcd, name, given["seconds"], dry), "removed": []}
    if given["state"] == "present":
        return {"changed": present(etcd, name, peer_url, dry), "removed": []}
    removed = absent(etcd, given["wanted"], given["wanted_urls"], dry)
    return {"changed": bool(removed), "removed": removed}


def main() -> None:
    """Run as Ansible's module."""
    module = AnsibleModule(
        argument_spec={
            "state": {"required": True, "choices": STATES},
            "name": {"required": True},
            "peer_url": {"required": True},
            "endpoints": {"required": True, "type": "list", "elements": "str"},
            "wanted": {"type": "list", "elements": "str", "default": []},
            "wanted_urls": {"type": "list", "elements": "str", "default": []},
            "password": {"required": True, "no_log": True},
            "remembered": {"required": True, "type": "path"},
            "tls": TLS_OPTIONS,
            "seconds": {"type": "int", "default": 60},
        },
        supports_check_mode=True,
    )
    try:
        module.exit_json(**run(module))
    except Refused as refusal:
        module.fail_json(msg=f"{refusal}. Nothing was changed by this step.")
    except (EtcdError, OSError) as error:
        module.fail_json(msg=failure(error, module.params["endpoints"]))


if __name__ == "__main__":
    main()
