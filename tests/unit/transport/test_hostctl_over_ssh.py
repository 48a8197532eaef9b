"""What the controller shows, from what a real hostctl answers over SSH: both ends of the protocol."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path

import paramiko
import pytest
from ssh_server import Server

from backline.hostctl import VERSION
from backline.operations import certificates
from backline.operations.status import collect
from backline.transport.fleet import SshFleet
from backline.transport.port import Target

ROOT = Path(__file__).parents[3]
HOSTCTL = "sudo -n /usr/local/bin/hostctl"
RELEASE = "20260101T000000Z-0000001"
PROGRAM = """\
import sys
from pathlib import Path
sys.path.insert(0, {checkout!r})
from backline.hostctl.cli import main
from backline.hostctl.host import Completed, Host
unheard = lambda argv, **options: Completed(0, "", "")
sys.exit(main(sys.argv[1:], Host(Path({root!r}), run=unheard, become=False)))
"""


@pytest.fixture
def host(tmp_path: Path) -> Path:
    """A host's files: an app with a release that is not running."""
    root = tmp_path / "root"
    for path, text in {
        "proc/loadavg": "0.10 0.20 0.30 1/100 4242\n",
        "proc/meminfo": "MemTotal: 1000 kB\nMemAvailable: 250 kB\n",
        "run/reboot-required": "",
        "etc/backline/apps/jukebox/app.json": '{"app": "jukebox"}',
        "etc/backline/apps/jukebox/processes/web.json": json.dumps(
            {"name": "web", "process": "web", "kind": "http", "unit": "jukebox-web@.service"}
        ),
        f"srv/jukebox/releases/{RELEASE}/release.json": json.dumps(
            {"id": RELEASE, "version": "1.0", "processes": {"web": {}}}
        ),
        "var/lib/backline/jukebox/state.json": json.dumps(
            {
                "releases": {RELEASE: {"state": "good"}},
                "live": {"web": {"release": RELEASE, "previous": None}},
            }
        ),
        "etc/backline/pki/host.pem": "nonsense\n",
    }.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text(text)
    (root / "srv/jukebox/current").symlink_to(f"releases/{RELEASE}")
    return root


@pytest.fixture
def fleet(tmp_path: Path, host: Path) -> Iterator[SshFleet]:
    """That host, and one behind an address where nobody listens."""
    key = tmp_path / "key"
    paramiko.ECDSAKey.generate().write_private_key_file(str(key))
    server = Server(host, paramiko.ECDSAKey.from_private_key_file(str(key)))
    program = tmp_path / "hostctl.py"
    program.write_text(PROGRAM.format(checkout=str(ROOT), root=str(host)))
    for verb in ("facts", "status", "certificates"):
        server.commands[f"{HOSTCTL} {verb}"] = f"exec {sys.executable} {program} {verb}"
    known = tmp_path / "known_hosts"
    known.write_text(server.pinned())
    targets = {
        "stream1": Target("stream1", "127.0.0.1", server.port, "deploy", str(key)),
        "stream2": Target("stream2", "127.0.0.1", 1, "deploy", str(key)),
    }
    with SshFleet(targets, known) as made:
        yield made
    server.close()


def test_the_whole_picture_arrives(fleet: SshFleet) -> None:
    well, dead = collect(fleet, ["stream1", "stream2"], {"stream1": ("streaming",)})
    assert well.trouble is None
    assert (well.app, well.current, well.version, well.state) == ("jukebox", RELEASE, "1.0", "good")
    assert well.running == (0, 1) and "web is not running" in well.troubles
    assert well.hostctl == VERSION and well.vitals is not None
    assert (well.vitals.load, well.vitals.memory, well.vitals.reboot) == (0.1, 0.75, True)
    assert "certificate host cannot be read" in well.troubles
    assert well.vitals.database is None and well.vitals.security is None
    assert not dead.reachable and "refused" in str(dead.error)
    json.dumps([well.as_json(), dead.as_json()])


def test_certificates_arrive(fleet: SshFleet) -> None:
    view = certificates.collect(fleet, ["stream1", "stream2"])
    (entry,) = view.entries
    assert (entry.host, entry.name, entry.days) == ("stream1", "host", None)
    assert "no certificate" in entry.trouble
    assert [error.host for error in view.silent] == ["stream2"]
