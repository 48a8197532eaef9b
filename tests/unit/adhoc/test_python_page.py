"""docs/reference/python.md, executed as it stands, on real sshds."""

from __future__ import annotations

import doctest
import json
from pathlib import Path

import pytest
from loop import Place
from test_logs import JOURNALCTL, entry, serve

from backline import places

PAGE = places.CHECKOUT / "docs/reference/python.md"
HOSTS = {"stream1": 1, "stream2": 2, "stream3": 3, "db1": 4, "worker1": 200}


@pytest.fixture
def staging(place: Place, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    folder = tmp_path / "inventory" / "staging"
    folder.mkdir(parents=True)
    user = next(iter(place.sshd.targets.values())).user
    hosts = {
        name: {"ansible_host": f"127.0.1.{number}", "ansible_port": place.sshd.port}
        for name, number in HOSTS.items()
    }
    groups = {
        "database": {"hosts": {"db1": hosts["db1"]}},
        "streaming": {"hosts": {name: hosts[name] for name in hosts if name.startswith("stream")}},
        "worker": {"hosts": {"worker1": hosts["worker1"]}},
    }
    key = str(place.sshd.key)
    shared = {"backline_user": user, "ansible_ssh_private_key_file": key}
    inventory = {"all": {"vars": shared, "children": groups}}
    (folder / "hosts.yml").write_text(json.dumps(inventory))
    (folder / "known_hosts").write_text(place.sshd.known_hosts.read_text())
    monkeypatch.setenv("BACKLINE_ROOT", str(tmp_path))
    for old in place.programs.iterdir():
        old.unlink()
    program = place.programs / "journalctl"
    program.write_text(JOURNALCTL.replace("HERE", str(place.programs)))
    program.chmod(0o755)
    nginx = {"_SYSTEMD_UNIT": "nginx.service"}
    serve(place.programs, 1, entry(5, "upstream timed out again", **nginx))
    serve(place.programs, 2, entry(4, "upstream timed out", **nginx))


@pytest.mark.usefixtures("staging")
def test_the_page_says_what_happens() -> None:
    text = PAGE.read_text()
    assert text.count(">>>") > 12
    found = doctest.DocTestParser().get_doctest(text, {}, PAGE.name, str(PAGE), 0)
    said: list[str] = []
    runner = doctest.DocTestRunner(verbose=False)
    runner.run(found, out=said.append)
    assert not runner.failures and runner.tries > 12, "".join(said)
