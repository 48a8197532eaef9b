"""What the database role tells hostctl is what hostctl reads; operators are nobody else's way in."""

from __future__ import annotations

import json
from pathlib import Path

from backline.hostctl import cluster
from backline.hostctl.host import Host
from backline.hostctl.query import READER, WRITER
from tests.templates.test_templates import DATABASE, FACTS, patroni, render


def test_hostctl_reads_what_the_role_writes(tmp_path: Path) -> None:
    names = ["db1", "db2", "db3"]
    text = render(
        "database",
        "database.json.j2",
        ansible_facts=FACTS,
        inventory_hostname="db1",
        database_address="198.51.100.31",
        database_members=[{"name": name, "address": f"198.51.100.3{name[-1]}"} for name in names],
        **DATABASE | {"database_restapi_password": "a \"quoted\" 'word'"},
    )
    path = tmp_path / cluster.FILE.lstrip("/")
    path.parent.mkdir(parents=True)
    path.write_text(text)
    path.chmod(0o600)
    found = cluster.load(Host(tmp_path))
    assert found.members["db3"] == "198.51.100.33"
    assert found.restapi == {"port": 8008, "user": "patroni", "password": "a \"quoted\" 'word'"}
    assert found.pgbouncer["tool"] == "/usr/local/sbin/backline-pgbouncer"
    assert (found.etcd_port, found.socket_dir) == (2379, "/var/run/postgresql")
    secrets = [word for name, word in DATABASE.items() if name.endswith("_password")]
    assert len(secrets) > 2 and not any(word in json.loads(text).values() for word in secrets)


def test_operators_come_in_over_the_socket_as_root_and_no_other_way() -> None:
    settings = patroni(3)["postgresql"]
    rules = [rule.split() for rule in settings["pg_hba"]]
    mine = [rule for rule in rules if {READER, WRITER} & set(rule[2].split(","))]
    assert mine == [
        ["local", "all", f"{READER},{WRITER}", "peer", "map=operators"],
        [
            "hostssl",
            "all",
            f"postgres,replicator,rewind,pgbouncer,{READER},{WRITER}",
            "all",
            "reject",
        ],
    ]
    # PostgreSQL takes the first rule that fits.
    everybody = [number for number, rule in enumerate(rules) if rule[:3] == ["local", "all", "all"]]
    assert rules.index(mine[0]) < everybody[0]
    network = [
        number for number, rule in enumerate(rules) if rule[2] == "all" and rule[0] == "hostssl"
    ]
    assert rules.index(mine[1]) < min(network)
    maps = [line.split() for line in settings["pg_ident"] if line.startswith("operators")]
    assert maps == [["operators", "root", READER], ["operators", "root", WRITER]]
