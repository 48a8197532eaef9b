#!/usr/bin/python3
"""etcd's users: root, and one for Patroni that may touch its own keys and no others."""

from __future__ import annotations

from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.database_etcd import (
    TLS_OPTIONS,
    Etcd,
    EtcdError,
    again,
    become_root,
    context,
    encoded,
    failure,
    prefix_end,
    wrong_password,
)

DOCUMENTATION = """
module: database_etcd_auth
short_description: Keeps etcd's users, and its authentication enabled
description:
  - Makes root and a user that may read and write under one prefix. Asks before it changes anything, so
    that a second run changes nothing.
  - Enabling does not disconnect anybody who has a user and password to sign in with.
options:
  endpoints: {description: Client URLs of the members., required: true, type: list, elements: str}
  root_password: {description: Password of root., required: true, type: str}
  remembered:
    description: File with a line ETCDCTL_PASSWORD=..., root's password of before.
    type: path
    required: true
  user: {description: The other user., required: true, type: str}
  password: {description: Its password., required: true, type: str}
  prefix: {description: What it may read and write., required: true, type: str}
  change_password:
    description: Whether the user's password is changed where it is another. Who uses it has to know first.
    default: true
    type: bool
  enable: {description: Whether authentication is enabled if it is not., default: true, type: bool}
  tls: {description: "Paths of ca, certificate and key.", required: true, type: dict}
  seconds: {description: How long to wait for an answer., default: 30, type: int}
author: Backline
"""
EXAMPLES = """
- database_etcd_auth:
    endpoints: ["https://198.51.100.31:2379"]
    root_password: "{{ one }}"
    remembered: /etc/etcd/etcdctl.env
    user: patroni
    password: "{{ other }}"
    prefix: /service/music/
    tls: "{{ database_tls }}"
"""
RETURN = """
done: {description: What was changed., type: list, returned: always}
"""


def missing(etcd: Etcd, user: str, prefix: str) -> list[tuple[str, str, dict[str, Any]]]:
    """Return the calls that make users and roles complete: (what for people, path, body)."""
    users = etcd.call("/auth/user/list", {}).get("users", [])
    roles = etcd.call("/auth/role/list", {}).get("roles", [])
    calls: list[tuple[str, str, dict[str, Any]]] = []
    for role in ("root", user):
        if role not in roles:
            calls.append((f"role {role}", "/auth/role/add", {"name": role}))
    permission = {
        "permType": "READWRITE",
        "key": encoded(prefix),
        "range_end": encoded(prefix_end(prefix)),
    }
    granted = etcd.call("/auth/role/get", {"role": user}).get("perm", []) if user in roles else []
    if permission not in granted:
        body = {"name": user, "perm": permission}
        calls.append((f"{user} may use {prefix}", "/auth/role/grant", body))
    for other in granted:
        if other != permission:
            body = {"role": user, "key": other["key"], "range_end": other.get("range_end", "")}
            calls.append((f"{user} may not use anything else", "/auth/role/revoke", body))
    for name in ("root", user):
        held = etcd.call("/auth/user/get", {"name": name}).get("roles", []) if name in users else []
        if name not in users:
            calls.insert(0, (f"user {name}", "/auth/user/add", {"name": name}))
        if name not in held:
            calls.append((f"{name} has its role", "/auth/user/grant", {"user": name, "role": name}))
    return calls


def differs(etcd: Etcd, user: str, password: str) -> bool:
    """Whether user has another password than that one. Asked only where etcd would tell."""
    other = Etcd(etcd.endpoints, etcd.tls)
    try:
        return not other.sign_in(user, password)
    except EtcdError as error:
        if not wrong_password(error):
            raise
        return True


def keep(etcd: Etcd, given: dict[str, Any], dry: bool) -> list[str]:
    """Bring users, roles and passwords to what is given; return what was changed, for people."""
    user, passwords = (
        given["user"],
        {"root": given["root_password"], given["user"]: given["password"]},
    )
    enabled, stale = become_root(
        etcd, given["root_password"], given["remembered"], given["seconds"]
    )
    done = []

    def change(what: str, path: str, body: dict[str, Any]) -> None:
        done.append(what)
        if not dry:
            again(lambda: etcd.call(path, body), 10)

    def change_password(name: str) -> None:
        change(
            f"password of {name}",
            "/auth/user/changepw",
            {"name": name, "password": passwords[name]},
        )

    present = set(etcd.call("/auth/user/list", {}).get("users", []))
    for what, path, body in missing(etcd, user, given["prefix"]):
        secret = {"password": passwords[body["name"]]} if path == "/auth/user/add" else {}
        change(what, path, {**body, **secret})
    if enabled:
        if user in present and given["change_password"] and differs(etcd, user, given["password"]):
            change_password(user)
        if stale:
            # Last: it ends this very session.
            change_password("root")
    elif given["enable"]:
        # Nobody can be asked whether a password fits while authentication is off.
        for name in sorted(present & set(passwords)):
            change_password(name)
        change("authentication", "/auth/enable", {})
    return done


def main() -> None:
    """Run as Ansible's module."""
    module = AnsibleModule(
        argument_spec={
            "endpoints": {"required": True, "type": "list", "elements": "str"},
            "root_password": {"required": True, "no_log": True},
            "remembered": {"required": True, "type": "path"},
            "user": {"required": True},
            "password": {"required": True, "no_log": True},
            "prefix": {"required": True},
            "change_password": {"type": "bool", "default": True, "no_log": False},
            "enable": {"type": "bool", "default": True},
            "tls": TLS_OPTIONS,
            "seconds": {"type": "int", "default": 30},
        },
        supports_check_mode=True,
    )
    tls = module.params["tls"]
    try:
        etcd = Etcd(module.params["endpoints"], context(tls["ca"], tls["certificate"], tls["key"]))
        done = keep(etcd, module.params, module.check_mode)
    except (EtcdError, OSError) as error:
        module.fail_json(msg=failure(error, module.params["endpoints"]))
    else:
        module.exit_json(changed=bool(done), done=done)


if __name__ == "__main__":
    main()
