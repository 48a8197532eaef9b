"""etcd over its HTTPS gateway: the calls the role needs, and the arithmetic of a majority.

Why not etcdctl: a password would be on its command line or in an environment that Ansible puts on
one. Runs on the database hosts, with the standard library only.
"""

from __future__ import annotations

import base64
import http.client
import json
import shlex
import ssl
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

Member = dict[str, Any]


class EtcdError(Exception):
    """etcd refused, or nobody answered; `reason` is etcd's own words or the network's."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


def context(ca: str, certificate: str, key: str) -> ssl.SSLContext:
    """Return a TLS context that trusts ca alone and shows this host's certificate."""
    made = ssl.create_default_context(cafile=ca)
    made.load_cert_chain(certificate, key)
    return made


def request(
    url: str, tls: ssl.SSLContext, body: Any = None, token: str = "", timeout: float = 3
) -> Any:
    """Return the JSON that url answers (a POST where there is a body); EtcdError says why not."""
    parts = urlsplit(url)
    headers = {"Content-Type": "application/json", **({"Authorization": token} if token else {})}
    link = http.client.HTTPSConnection(
        parts.hostname or "", parts.port, timeout=timeout, context=tls
    )
    try:
        data = None if body is None else json.dumps(body)
        link.request("GET" if data is None else "POST", parts.path or "/", data, headers)
        answer = link.getresponse()
        text = answer.read().decode(errors="replace")
    except (OSError, http.client.HTTPException) as error:
        raise EtcdError(f"{parts.netloc}: {error}") from error
    finally:
        link.close()
    try:
        document = json.loads(text)
    except ValueError:
        document = {"error": text.strip() or f"status {answer.status}"}
    if answer.status >= 400 and "error" in document:
        raise EtcdError(str(document["error"]))
    return document


class Etcd:
    """A cluster, reached through the first of its endpoints that answers."""

    def __init__(self, endpoints: list[str], tls: ssl.SSLContext) -> None:
        self.endpoints = list(endpoints)
        self.tls = tls
        self.token = ""

    def call(self, path: str, body: Any) -> Any:
        """Return what etcd answers to a call of its v3 gateway. Raises EtcdError."""
        failures = []
        for endpoint in self.endpoints:
            try:
                return request(f"{endpoint}/v3{path}", self.tls, body, self.token)
            except EtcdError as error:
                if error.reason.startswith("etcdserver: ") and "timed out" not in error.reason:
                    raise
                failures.append(error.reason)
        raise EtcdError("; ".join(failures) or "there is no endpoint to ask")

    def sign_in(self, user: str, password: str) -> bool:
        """Take a token for user. False when authentication is not enabled; EtcdError when refused."""
        self.token = ""
        try:
            answer = self.call("/auth/authenticate", {"name": user, "password": password})
        except EtcdError as error:
            if "authentication is not enabled" in error.reason:
                return False
            raise
        self.token = str(answer["token"])
        return True

    def members(self) -> list[Member]:
        """Return the members: id, name (empty until it has started), peers, clients, learner."""
        return [read_member(member) for member in self.call("/cluster/member/list", {})["members"]]

    def healthy(self, member: Member) -> bool:
        """Whether a member says that it serves, which needs a majority behind it."""
        for url in member["clients"]:
            try:
                return str(request(f"{url}/health", self.tls, timeout=2).get("health")) == "true"
            except EtcdError:
                continue
        return False


def wrong_password(error: EtcdError) -> bool:
    """Whether etcd refused a password, rather than that it could not be asked."""
    return "authentication failed" in error.reason


def failure(error: Exception, endpoints: list[str]) -> str:
    """Return for people why a module gave up, and what to do if there is more to do than to look there."""
    if isinstance(error, EtcdError) and wrong_password(error):
        return (
            "etcd's root has another password than database_etcd_root_password, and than this host "
            "remembers. Apply the role where /etc/etcd/etcdctl.env has it first. Nothing was changed."
        )
    return f"etcd ({', '.join(endpoints)}): {error}"


def become_root(etcd: Etcd, password: str, remembered: str, seconds: float) -> tuple[bool, bool]:
    """Sign in as root; return whether authentication is enabled, and whether only the password of before did.

    remembered: file for etcdctl, with root's password as it was when the role was last applied.
    Raises EtcdError when nobody answers within seconds, or neither password is right.
    """
    # Whoever may not sign in may still see the members: wait until there is somebody to ask.
    again(lambda: etcd.call("/cluster/member/list", {}), seconds)
    try:
        return etcd.sign_in("root", password), False
    except EtcdError as error:
        before = remembered_password(remembered)
        if not wrong_password(error) or before in ("", password):
            raise
    return etcd.sign_in("root", before), True


def remembered_password(path: str) -> str:
    """Return root's password as the file for etcdctl has it; empty without one."""
    try:
        lines = Path(path).read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        return ""
    found = [shlex.split(line) for line in lines if line.startswith("ETCDCTL_PASSWORD=")]
    return found[0][0].partition("=")[2] if found else ""


def read_member(member: dict[str, Any]) -> Member:
    """Return etcd's description of a member with the names that are used here."""
    return {
        "id": str(member["ID"]),
        "name": str(member.get("name", "")),
        "peers": list(member.get("peerURLs", [])),
        "clients": list(member.get("clientURLs", [])),
        "learner": bool(member.get("isLearner", False)),
    }


def majority(voters: int) -> int:
    """Return how many of so many voters have to be healthy.

    >>> [majority(n) for n in (1, 2, 3, 5)]
    [1, 2, 2, 3]
    """
    return voters // 2 + 1


def spare(members: list[Member], healthy: set[str], leaving: str) -> bool:
    """Whether the voters without the member of that ID have a majority that is healthy."""
    rest = [member["id"] for member in members if not member["learner"] and member["id"] != leaving]
    return bool(rest) and len([one for one in rest if one in healthy]) >= majority(len(rest))


def prefix_end(prefix: str) -> str:
    """Return the first key after all that begin with prefix.

    >>> prefix_end("/service/music/")
    '/service/music0'
    """
    return prefix[:-1] + chr(ord(prefix[-1]) + 1)


def encoded(text: str) -> str:
    """Return text as the gateway wants bytes: base64."""
    return base64.b64encode(text.encode()).decode()


def again(action: Callable[[], Any], seconds: float) -> Any:
    """Return what action returns, tried once a second; the last EtcdError when time is up."""
    end = time.monotonic() + seconds
    while True:
        try:
            return action()
        except EtcdError:
            if time.monotonic() > end:
                raise
        time.sleep(1)


TLS_OPTIONS = {
    "type": "dict",
    "required": True,
    "options": {
        "ca": {"type": "path", "required": True},
        "certificate": {"type": "path", "required": True},
        "key": {"type": "path", "required": True, "no_log": False},
        "group": {"type": "str"},
    },
}
