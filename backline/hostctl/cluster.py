"""The database cluster that this host is a member of: what the role wrote down, and Patroni's REST API.

/etc/backline/database.json is root's alone (it has the password by which Patroni takes changes):
{"scope", "name", "address", "members": [{"name", "address"}], "port", "socket_dir",
 "restapi": {"port", "user", "password"}, "tls": {"ca", "certificate", "key"}, "etcd": {"port"},
 "pgbouncer": {"port", "socket_dir", "tool"}}
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, NamedTuple

from .errors import HostctlError

if TYPE_CHECKING:
    import ssl
    from http.client import HTTPSConnection

    from .host import Host

FILE = "/etc/backline/database.json"
LEADERS = ("leader", "standby_leader")
SYNC = ("sync_standby", "quorum_standby")
GOOD = ("running", "streaming")
PRIMARY = ("primary", "master")
LOOK_WITHIN = 3.0
ENDS_WITH_US = "-c client_connection_check_interval=2000"
"""For PGOPTIONS: a statement whose psql was killed ends; PostgreSQL would finish it otherwise."""


class Settings(NamedTuple):
    """This host as a member, and its peers: {name: address}."""

    scope: str
    name: str
    address: str
    members: dict[str, str]
    port: int
    socket_dir: str
    restapi: dict[str, Any]
    tls: dict[str, str]
    etcd_port: int
    pgbouncer: dict[str, Any]


class Cluster(NamedTuple):
    """What Patroni says of the cluster; members as its /cluster has them."""

    members: tuple[dict[str, Any], ...]
    paused: bool
    scheduled: bool

    @property
    def leader(self) -> dict[str, Any] | None:
        """Who holds the leader's lock, if anybody does."""
        return next((m for m in self.members if m.get("role") in LEADERS), None)

    def member(self, name: str) -> dict[str, Any] | None:
        return next((m for m in self.members if m.get("name") == name), None)


def load(host: Host) -> Settings:
    """This host's settings. Raises `HostctlError` (no_database, bad_settings)."""
    path = host.path(FILE)
    try:
        if path.stat().st_mode & 0o077:
            raise _bad("others than root may read it, and it holds a password")
        found = json.loads(path.read_text())
        return Settings(
            scope=str(found["scope"]),
            name=str(found["name"]),
            address=str(found["address"]),
            members={str(m["name"]): str(m["address"]) for m in found["members"]},
            port=int(found["port"]),
            socket_dir=str(found["socket_dir"]),
            restapi=dict(found["restapi"]),
            tls=dict(found["tls"]),
            etcd_port=int(found["etcd"]["port"]),
            pgbouncer=dict(found["pgbouncer"]),
        )
    except FileNotFoundError:
        raise HostctlError(
            "no_database",
            f"this host is no member of a database cluster: {FILE} is not there; nothing was changed",
            "a database host that was built before this hostctl: run playbooks/database.yml",
        ) from None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise _bad(f"{type(error).__name__}: {error}") from None


def _bad(reason: str) -> HostctlError:
    return HostctlError(
        "bad_settings", f"{FILE} cannot be used: {reason}", "run playbooks/database.yml again"
    )


class Patroni:
    """Patroni's REST API on the members, over HTTPS with this host's certificate."""

    def __init__(self, host: Host, settings: Settings) -> None:
        self.host = host
        self.settings = settings
        self._context: ssl.SSLContext | None = None

    def cluster(self) -> Cluster:
        """What this member knows of the cluster, or the first of the others that answers.

        Raises `HostctlError` (patroni_silent) when nobody does.
        """
        mine = self.settings.name
        reasons = []
        for name in sorted(self.settings.members, key=lambda name: (name != mine, name)):
            try:
                status, found = self.get(name, "/cluster")
            except OSError as error:
                reasons.append(f"{name}: {error}")
                continue
            if status == 200 and isinstance(found.get("members"), list):
                return parse(found)
            reasons.append(f"{name}: status {status}")
        raise HostctlError(
            "patroni_silent",
            f"no member's Patroni tells of the cluster ({'; '.join(reasons)[:300]})",
            "systemctl status patroni etcd, on each database host",
        )

    def config(self) -> dict[str, Any]:
        """The cluster's settings in force; empty when this member does not tell."""
        try:
            status, found = self.get(self.settings.name, "/config")
        except OSError:
            return {}
        return found if status == 200 else {}

    def writes(self, name: str) -> bool:
        """True when the member holds the lock *and* is promoted: /primary alone says yes before."""
        try:
            status, found = self.get(name, "/primary", within=1.0)
        except OSError:
            return False
        return status == 200 and found.get("role") in PRIMARY and found.get("state") == "running"

    def get(self, name: str, path: str, within: float = LOOK_WITHIN) -> tuple[int, dict[str, Any]]:
        """Status and JSON of a question. Raises `OSError` when there is no answer."""
        status, text = self._ask(name, "GET", path, within)
        return status, _object(text)

    def post(self, name: str, path: str, body: dict[str, Any], within: float) -> tuple[int, str]:
        """Status and text of a request for a change. Raises `OSError` when there is no answer."""
        return self._ask(name, "POST", path, within, body)

    def etcd(self, name: str) -> str:
        """How etcd of a member is, as seen from here: `healthy`, or what is wrong."""
        try:
            status, text = self._ask(name, "GET", "/health", LOOK_WITHIN, etcd=True)
        except OSError as error:
            return str(error) or type(error).__name__
        return "healthy" if _object(text).get("health") == "true" else f"ill (status {status})"

    def _ask(
        self,
        name: str,
        method: str,
        path: str,
        within: float,
        body: dict[str, Any] | None = None,
        etcd: bool = False,
    ) -> tuple[int, str]:
        import base64
        from http.client import HTTPException

        headers = {}
        if body is not None:
            access = f"{self.settings.restapi['user']}:{self.settings.restapi['password']}"
            headers["Authorization"] = "Basic " + base64.b64encode(access.encode()).decode()
            headers["Content-Type"] = "application/json"
        content = None if body is None else json.dumps(body)
        connection = self._connection(name, within, etcd)
        try:
            connection.request(method, path, content, headers)
            answer = connection.getresponse()
            return answer.status, answer.read(1024 * 1024).decode("utf-8", "replace")
        except HTTPException as error:
            raise OSError(f"not HTTP: {type(error).__name__}: {error}") from None
        finally:
            connection.close()

    def _connection(self, name: str, within: float, etcd: bool) -> HTTPSConnection:
        import ssl
        from http.client import HTTPSConnection

        if self._context is None:
            tls = self.settings.tls
            self._context = ssl.create_default_context(cafile=str(self.host.path(tls["ca"])))
            certificate, key = self.host.path(tls["certificate"]), self.host.path(tls["key"])
            self._context.load_cert_chain(str(certificate), str(key))
        port = self.settings.etcd_port if etcd else int(self.settings.restapi["port"])
        address = self.settings.members[name]
        return HTTPSConnection(address, port, timeout=within, context=self._context)


def parse(found: dict[str, Any]) -> Cluster:
    """Patroni's /cluster."""
    members = tuple(dict(member) for member in found["members"] if isinstance(member, dict))
    return Cluster(members, bool(found.get("pause")), "scheduled_switchover" in found)


def _object(text: str) -> dict[str, Any]:
    try:
        found = json.loads(text)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}
