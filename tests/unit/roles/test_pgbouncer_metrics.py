"""What the monitor hears of PgBouncer's pools, from what its console really says (1.18)."""

from __future__ import annotations

import importlib.machinery
import importlib.util
import itertools
import os
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

PROGRAM = Path(__file__).parents[3] / "roles/exporters/files/pgbouncer-metrics"
ANSWER = """#pools
database,user,cl_active,cl_waiting,cl_active_cancel_req,cl_waiting_cancel_req,sv_active,sv_active_cancel,sv_being_canceled,sv_idle,sv_used,sv_tested,sv_login,maxwait,maxwait_us,pool_mode
jukebox,jukebox,1,3,0,0,1,0,0,0,0,0,0,1,573315,transaction
pgbouncer,pgbouncer,1,0,0,0,0,0,0,0,0,0,0,0,0,statement
#stats
database,total_xact_count,total_query_count,total_received,total_sent,total_xact_time,total_query_time,total_wait_time,avg_xact_count,avg_query_count,avg_recv,avg_sent,avg_xact_time,avg_query_time,avg_wait_time
jukebox,2,5,24,42,2500000,1500000,7350,0,0,0,0,0,0,133
pgbouncer,4,4,0,0,0,0,0,0,0,0,0,0,0,0
#databases
name,host,port,database,force_user,pool_size,min_pool_size,reserve_pool,pool_mode,max_connections,current_connections,paused,disabled
jukebox,/run/postgresql,5432,jukebox,,40,0,0,transaction,30,1,0,0
small,/run/postgresql,5432,small,,7,0,0,,0,1,0,0
pgbouncer,,6432,pgbouncer,pgbouncer,2,0,0,statement,0,0,0,0
#config
key,value,default,changeable
auth_query,"SELECT usename, passwd FROM pgbouncer.lookup($1)","SELECT
#stats of nobody",yes
max_client_conn,2000,100,yes
"""


@pytest.fixture(scope="module")
def program() -> ModuleType:
    loader = importlib.machinery.SourceFileLoader("pgbouncer_metrics", str(PROGRAM))
    spec = importlib.util.spec_from_loader(loader.name, loader)
    assert spec
    module = importlib.util.module_from_spec(spec)
    sys.dont_write_bytecode = True
    loader.exec_module(module)
    return module


def told(program: ModuleType, answer: str) -> list[str]:
    text: str = program.text(list(program.samples(program.tables(answer))))
    return text.splitlines()


def test_who_waits_how_long_and_for_how_many_servers(program: ModuleType) -> None:
    lines = told(program, ANSWER)
    pool = 'database="jukebox",user="jukebox"'
    for line in (
        "backline_pgbouncer_up 1",
        "backline_pgbouncer_max_clients 2000",
        f'backline_pgbouncer_clients{{{pool},state="waiting"}} 3',
        f'backline_pgbouncer_servers{{{pool},state="active"}} 1',
        f"backline_pgbouncer_wait_seconds{{{pool}}} 1.573315",
        'backline_pgbouncer_max_servers{database="jukebox"} 30',
        # Without a limit of its own a database has that of one pool.
        'backline_pgbouncer_max_servers{database="small"} 7',
        'backline_pgbouncer_query_seconds_total{database="jukebox"} 1.5',
        'backline_pgbouncer_client_wait_seconds_total{database="jukebox"} 0.00735',
    ):
        assert line in lines, line


def test_the_console_is_no_database(program: ModuleType) -> None:
    assert not [line for line in told(program, ANSWER) if 'database="pgbouncer"' in line]


def test_each_metric_is_explained_once_and_its_samples_are_together(program: ModuleType) -> None:
    lines = told(program, ANSWER)
    names = [re.split("[{ ]", line)[0] for line in lines if not line.startswith("#")]
    together = [name for name, _ in itertools.groupby(names)]
    explained = [line.split()[2] for line in lines if line.startswith("# TYPE")]
    assert together == explained == list(program.HELP)


def test_a_console_of_another_version_is_told_of_and_does_not_break_the_host(
    program: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(program, "ask", lambda *_: ANSWER.replace("cl_waiting,", "cl_queued,"))
    assert program.look("/run/pgbouncer", "6432") == [("backline_pgbouncer_up", {}, 0)]
    monkeypatch.setattr(program, "ask", lambda *_: "")
    assert program.look("/run/pgbouncer", "6432") == [("backline_pgbouncer_up", {}, 0)]


def test_nobody_at_the_socket_is_told_of(tmp_path: Path) -> None:
    target = tmp_path / "pgbouncer.prom"
    done = subprocess.run(
        [sys.executable, "-IS", str(PROGRAM), str(tmp_path), "6432", str(target)],
        capture_output=True, text=True, check=True, env={"PATH": os.environ["PATH"]},
    )  # fmt: skip
    assert target.read_text().splitlines()[-1] == "backline_pgbouncer_up 0"
    assert target.stat().st_mode & 0o777 == 0o644 and done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["pgbouncer.prom"]
