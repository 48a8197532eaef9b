"""What is asked of PostgreSQL, asked of a real one: sessions, locks, tables, and what may be ended."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from backline.errors import BacklineError
from backline.hostctl import query, superuser
from backline.hostctl.cluster import Settings
from backline.hostctl.errors import HostctlError
from backline.hostctl.host import Host
from backline.hostctl.names import Request
from backline.operations.database import ask, sessions, tables
from backline.transport.port import HostError

PROGRAMS = sorted(Path("/usr/lib/postgresql").glob("*/bin"))
pytestmark = pytest.mark.skipif(not PROGRAMS, reason="no PostgreSQL of Debian's on this machine")
ROLE = yaml.safe_load((Path(__file__).parents[3] / "roles/database/vars/main.yml").read_text())
UTILITY = ROLE["__database_cluster_parameters"]["pg_stat_statements.track_utility"]
SETUP = """
create role backline_reader login; grant pg_read_all_data, pg_read_all_stats to backline_reader;
create role app login; create role copier login replication; create database music owner app;
"""


class Server:
    """A PostgreSQL of our own on a socket; hostctl's own programs ask it. Implements port.Fleet's `call`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.user = "postgres" if os.geteuid() == 0 else None
        if self.user:
            shutil.chown(folder, self.user)
        port = 5432
        self.settings = Settings("music", "db1", "", {}, port, str(folder), {}, {}, 2379, {})
        self.host = Host(become=False)
        self.clients: list[subprocess.Popen[str]] = []

    def start(self) -> None:
        self._run("initdb", "-D", "data", "-U", "postgres", "-A", "trust", "-N", "-E", "UTF8")
        options = f"-k {self.folder} -c listen_addresses= -c fsync=off -c autovacuum=off"
        options += " -c shared_preload_libraries=pg_stat_statements"
        options += f" -c pg_stat_statements.track_utility={UTILITY}"
        self._run("pg_ctl", "-D", "data", "-l", "log", "-w", "-o", options, "start")
        self.sql("postgres", SETUP)

    def stop(self) -> None:
        for client in self.clients:
            client.kill()
            client.communicate()
        self._run("pg_ctl", "-D", "data", "-m", "immediate", "-w", "stop")

    def _run(self, program: str, *words: str) -> None:
        argv = [str(PROGRAMS[-1] / program), *words]
        done = subprocess.run(argv, cwd=self.folder, user=self.user, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr + done.stdout

    def argv(self, user: str, database: str) -> list[str]:
        return ["psql", "-XqAt", "-h", str(self.folder), "-U", user, "-d", database]

    def sql(self, user: str, text: str, database: str = "postgres") -> str:
        argv = self.argv(user, database)
        argv += [word for part in text.split(";") if part.strip() for word in ("-c", part)]
        return subprocess.run(argv, check=True, capture_output=True, text=True).stdout.strip()

    def session(self, user: str, *statements: str, database: str = "music") -> int:
        """A session that does all this and stays in the last; its process ID."""
        client = subprocess.Popen(
            self.argv(user, database),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        self.clients.append(client)
        assert client.stdin and client.stdout
        client.stdin.write("select pg_backend_pid();\n")
        client.stdin.flush()
        pid = int(client.stdout.readline())
        client.stdin.write("".join(f"{statement};\n" for statement in statements))
        client.stdin.flush()
        return pid

    def call(
        self, host: str, verb: str, fields: Mapping[str, Any], *, deadline: float = 30.0
    ) -> dict[str, Any]:
        request = Request(verb, fields)
        work = {"query": query.run, "signal": superuser.signal, "vacuum": superuser.vacuum}[
            str(fields["action"])
        ]
        try:
            return dict(work(self.host, self.settings, request))
        except HostctlError as error:
            raise HostError(
                host, error.message, code=error.code, exit_code=error.exit_status
            ) from None


@pytest.fixture(scope="module")
def started() -> Iterator[Server]:
    folder = Path(tempfile.mkdtemp(prefix="backline-pg-"))
    server = Server(folder)
    server.start()
    server.sql("app", "create table plays (id int primary key, n int)", "music")
    server.sql("app", "insert into plays select g, 0 from generate_series(1, 1000) g", "music")
    yield server
    server.stop()
    shutil.rmtree(folder)


@pytest.fixture
def server(started: Server) -> Iterator[Server]:
    yield started
    while started.clients:
        client = started.clients.pop()
        client.kill()
        client.communicate()
    started.sql(
        "postgres", "select pg_terminate_backend(pid) from pg_stat_activity where usename = 'app'"
    )


def until(true: Any) -> Any:
    end = time.monotonic() + 10
    while not (found := true()):
        assert time.monotonic() < end, "not within 10 s"
        time.sleep(0.05)
    return found


WHO: dict[str, Any] = {"actor": "ann@desk"}


def test_what_runs_is_shown_without_its_literals(server: Server) -> None:
    pid = server.session("app", "select pg_sleep(30), 'wachtwoord' as secret")
    hosts = {"db1": "db1"}
    (found,) = until(lambda: sessions.running(server, hosts, WHO, 10)[0])  # type: ignore[arg-type]
    assert (found.pid, found.user, found.database, found.state) == (pid, "app", "music", "active")
    assert found.text(verbatim=False) == "select pg_sleep(?), ? as secret;"
    assert "wachtwoord" in found.text(verbatim=True) and found.protected is None
    assert "wachtwoord" not in json.dumps(found.as_json(verbatim=False))
    assert 0 <= (found.statement or -1) < 30


def test_an_idle_transaction_is_among_the_longest(server: Server) -> None:
    server.session("app", "begin", "select 1")
    found = until(lambda: sessions.running(server, {"db1": "db1"}, WHO, 10)[0])  # type: ignore[arg-type]
    assert found[0].state in ("idle in transaction", "active")


def test_who_waits_for_whom(server: Server) -> None:
    root = server.session("app", "begin", "lock table plays in share mode")
    until(
        lambda: server.sql(
            "postgres", "select 1 from pg_locks where mode = 'ShareLock' and granted"
        )
    )
    first = server.session("app", "update plays set n = 1 where id = 1")
    until(lambda: len(sessions.locks(server, "db1", "db1", WHO)) == 2)  # type: ignore[arg-type]
    second = server.session("app", "begin", "lock table plays in access exclusive mode")
    found = until(lambda: _three(server))
    knots = sessions.tree(found)
    assert [(knot.depth, knot.session.pid) for knot in knots if knot.session][:2] == [
        (0, root),
        (1, first),
    ]
    assert {session.pid for session in found} == {root, first, second}
    waiting = next(session for session in found if session.pid == first)
    assert waiting.wants == "RowExclusiveLock on plays" and waiting.by == (root,)


def _three(server: Server) -> list[sessions.Session] | None:
    found = sessions.locks(server, "db1", "db1", WHO)  # type: ignore[arg-type]
    return found if len(found) == 3 else None


def test_nobody_waits(server: Server) -> None:
    assert sessions.locks(server, "db1", "db1", WHO) == []  # type: ignore[arg-type]


def test_costs_are_known_where_the_extension_is(server: Server) -> None:
    nothing = sessions.costliest(server, "db1", "db1", WHO, 5)  # type: ignore[arg-type]
    assert nothing.statements == () and "no database has the extension" in nothing.unknown
    server.sql("app", "select count(*) from plays where n = 12345", "music")
    server.sql("postgres", "alter user app password 's3cret'")
    for database in ("music", "postgres"):  # the role's is in `postgres`
        server.sql("postgres", "create extension pg_stat_statements", database)
        costs = sessions.costliest(server, "db1", "db1", WHO, 500)  # type: ignore[arg-type]
        server.sql("postgres", "drop extension pg_stat_statements", database)
        found = [one for one in costs.statements if "count(*) from plays" in one.query]
        assert [(one.database, one.user, one.calls) for one in found] == [("music", "app", 1)]
        # Not even --verbatim has literals; of utility statements they would be kept, passwords too.
        shown = json.dumps([one.as_json(verbatim=True) for one in costs.statements])
        assert "12345" not in shown and "s3cret" not in shown
        assert costs.unknown == ""
    times = [one.seconds for one in costs.statements]
    assert times == sorted(times, reverse=True)


def test_tables_by_what_vacuum_left(server: Server) -> None:
    server.sql("app", "update plays set n = n + 1", "music")

    def plays() -> tables.Table | None:
        found = tables.worst(server, "db1", WHO, "", "dead", 5)  # type: ignore[arg-type]
        return found[0] if found[0].name == "plays" and found[0].dead >= 1000 else None

    table = until(plays)
    assert (table.database, table.schema) == ("music", "public")
    assert table.age > 0 and table.bytes > 8192 and table.vacuumed is None
    assert tables.find(server, "db1", WHO, "", "public.plays").name == "plays"  # type: ignore[arg-type]


def test_a_table_that_is_locked_keeps_nobody_from_finding_another(server: Server) -> None:
    """Nor from finding itself: it is vacuum that gives up after 5 s, and says so."""
    server.sql("app", "create table if not exists it_s (n int)", "music")
    server.session("app", "begin", "lock table plays in access exclusive mode")
    until(
        lambda: server.sql(
            "postgres",
            "select 1 from pg_locks where relation = 'plays'::regclass and granted",
            "music",
        )
    )
    began = time.monotonic()
    assert tables.find(server, "db1", WHO, "", "it_s").schema == "public"  # type: ignore[arg-type]
    assert tables.find(server, "db1", WHO, "", "public.plays").name == "plays"  # type: ignore[arg-type]
    assert tables.worst(server, "db1", WHO, "", "size", 5)  # type: ignore[arg-type]
    assert time.monotonic() - began < ask.SECONDS / 2
    with pytest.raises(BacklineError, match="there is no table it's"):
        tables.find(server, "db1", WHO, "", "it's")  # type: ignore[arg-type]


def sign(
    server: Server, pid: int, how: str = "cancel", started: int | None = None
) -> dict[str, Any]:
    if started is None:
        row = sessions.one(server, "db1", "db1", pid, WHO)  # type: ignore[arg-type]
        assert row is not None
        started = row.started
    fields = {"action": "signal", "how": how, "pid": pid, "started": started}
    return server.call("db1", "database", fields)


def test_a_statement_is_cancelled_and_its_session_stays(server: Server) -> None:
    pid = server.session("app", "select pg_sleep(30)", "select pg_sleep(31)")
    until(lambda: "30" in _query(server, pid))
    assert sign(server, pid)["who"] == "app"
    until(lambda: "31" in _query(server, pid))
    assert sign(server, pid, "terminate")["signalled"] is True
    until(lambda: sessions.one(server, "db1", "db1", pid, WHO) is None)  # type: ignore[arg-type]


def _query(server: Server, pid: int) -> str:
    found = sessions.one(server, "db1", "db1", pid, WHO)  # type: ignore[arg-type]
    return found.query if found else ""


@pytest.mark.parametrize("user", ["postgres", "copier"])
def test_superusers_and_replication_are_left_alone(server: Server, user: str) -> None:
    pid = server.session(user, "select pg_sleep(30)", database="postgres")
    until(lambda: "30" in _query(server, pid))
    found = sessions.one(server, "db1", "db1", pid, WHO)  # type: ignore[arg-type]
    assert found is not None and found.protected
    with pytest.raises(HostError) as caught:
        sign(server, pid, "terminate")
    assert (caught.value.code, caught.value.exit_code) == ("protected", 6)
    assert "30" in _query(server, pid)


def test_a_vacuum_of_ours_that_nobody_waits_for_may_be_ended(server: Server) -> None:
    name = f"set application_name = '{superuser.OURS}'"
    pid = server.session("postgres", name, "select pg_sleep(30)", database="postgres")
    until(lambda: "30" in _query(server, pid))
    found = sessions.one(server, "db1", "db1", pid, WHO)  # type: ignore[arg-type]
    assert found is not None and found.protected is None and sessions.OURS == superuser.OURS
    assert sign(server, pid)["signalled"] is True


def test_postgresql_s_own_processes_are_left_alone(server: Server) -> None:
    sql = "select pid, (extract(epoch from backend_start) * 1000000)::bigint as started "
    sql += "from pg_stat_activity where backend_type = 'checkpointer'"
    row = json.loads(server.sql("postgres", f"select row_to_json(x) from ({sql}) x"))
    with pytest.raises(HostError, match="checkpointer"):
        sign(server, row["pid"], "terminate", row["started"])


def test_another_session_with_the_same_number_is_not_taken_for_it(server: Server) -> None:
    pid = server.session("app", "select pg_sleep(30)")
    until(lambda: "30" in _query(server, pid))
    with pytest.raises(HostError) as caught:
        sign(server, pid, "terminate", started=1_700_000_000_000_000)
    assert caught.value.code == "no_session" and "30" in _query(server, pid)


def test_answers_that_are_odd_are_read_whole(server: Server) -> None:
    odd = 'quote " comma, line\nbreak é'
    sql = (
        'select $q$quote " comma, line\nbreak é$q$ as text, array[1,2] as numbers, null as nothing'
    )
    (row,) = ask.rows(server, "db1", sql, WHO)  # type: ignore[arg-type]
    assert row == {"text": odd, "numbers": [1, 2], "nothing": None}
