"""`fab hosts.trust` and `hosts.list`, against real sshds on loopback addresses."""

from __future__ import annotations

import base64
import getpass
import hashlib
import hmac
import os
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from calling import call, lines

from backline import inventory
from backline.inventory import Environment, Host
from backline.operations import trust
from backline.tasks import hosts

ADDRESSES = {"h1": "127.0.1.201", "h2": "127.0.1.202"}
SSHD = Path("/usr/sbin/sshd")
HEADER = "# The keys of the test.\n"


class Daemon:
    """A sshd with host keys of its own on one address, a child of this process."""

    def __init__(self, folder: Path, address: str, port: int, kinds: tuple[str, ...]) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder, self.address, self.port = folder, address, port
        lines = [f"ListenAddress {address}", f"Port {port}", "PidFile none", "UsePAM no"]
        lines += ["StrictModes no", "PasswordAuthentication no", "MaxStartups 100"]
        for kind in kinds:
            self.make(kind)
            lines.append(f"HostKey {folder / kind}")
        (folder / "sshd.conf").write_text("\n".join(lines) + "\n")
        self.start()

    def make(self, kind: str) -> None:
        path = self.folder / kind
        path.unlink(missing_ok=True)
        subprocess.run(["ssh-keygen", "-q", "-t", kind, "-N", "", "-f", str(path)], check=True)

    def start(self) -> None:
        if os.getuid() == 0:
            Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)
        self.process = subprocess.Popen(
            [str(SSHD), "-D", "-e", "-f", str(self.folder / "sshd.conf")],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=(self.folder / "log").open("ab"),
            start_new_session=True,
        )
        end = time.monotonic() + 20
        while True:
            assert self.process.poll() is None, (self.folder / "log").read_text()
            try:
                with socket.create_connection((self.address, self.port), 1) as connection:
                    if connection.recv(4) == b"SSH-":
                        return
            except OSError:
                time.sleep(0.05)
            assert time.monotonic() < end

    def stop(self) -> None:
        os.killpg(self.process.pid, signal.SIGTERM)
        self.process.wait(10)

    def fingerprint(self, kind: str) -> str:
        """As the host's console shows it."""
        argv = ["ssh-keygen", "-lf", str(self.folder / f"{kind}.pub")]
        return subprocess.run(argv, check=True, capture_output=True, text=True).stdout.split()[1]

    def line(self, kind: str) -> str:
        key = " ".join((self.folder / f"{kind}.pub").read_text().split()[:2])
        return f"[{self.address}]:{self.port} {key}\n"


def _is_free(port: int) -> bool:
    """Below the ports that the kernel gives to clients: a daemon is stopped and comes back to it."""
    try:
        for address in ADDRESSES.values():
            socket.create_server((address, port)).close()
    except OSError:
        return False
    return True


@pytest.fixture
def daemons(tmp_path: Path) -> Iterator[dict[str, Daemon]]:
    if not SSHD.exists():
        pytest.skip("/usr/sbin/sshd is not installed")
    port = next(port for port in range(22_022 + os.getpid() % 5000, 32_000) if _is_free(port))
    found = {"h1": Daemon(tmp_path / "h1", ADDRESSES["h1"], port, ("ed25519", "rsa", "ecdsa"))}
    found["h2"] = Daemon(tmp_path / "h2", ADDRESSES["h2"], port, ("ed25519",))
    yield found
    for daemon in found.values():
        daemon.stop()


@pytest.fixture
def known(tmp_path: Path, daemons: dict[str, Daemon], monkeypatch: pytest.MonkeyPatch) -> Path:
    """The environment `stage` with both hosts, in nobody's production: it asks nothing by itself."""
    folder = tmp_path / "inventory"
    folder.mkdir()
    fleet = Environment(
        "stage",
        folder,
        {
            name: Host(
                name, d.address, d.port, "deploy", None, f"10.0.0.{name[1]}", "a", ("all_h",)
            )
            for name, d in daemons.items()
        },
        {"all_h": ("h1", "h2"), "one": ("h1",)},
        False,
        (),
    )
    monkeypatch.setattr(inventory, "load", lambda name: fleet)
    return fleet.known_hosts


def test_keys_are_pinned_as_openssh_reads_them(
    known: Path, daemons: dict[str, Daemon], capsys: pytest.CaptureFixture[str]
) -> None:
    known.write_text(HEADER)
    assert call(hosts.trust, yes=2) == 0
    err = capsys.readouterr().err
    for kind in ("ed25519", "rsa", "ecdsa"):
        assert daemons["h1"].fingerprint(kind) in err
    assert known.read_text().startswith(HEADER)
    for daemon in daemons.values():
        place = f"[{daemon.address}]:{daemon.port}"
        argv = ["ssh-keygen", "-F", place, "-f", str(known), "-l"]
        said = subprocess.run(argv, check=True, capture_output=True, text=True).stdout
        assert daemon.fingerprint("ed25519") in said
    # What counts in the end: ssh itself comes past the host key, and is only then refused.
    for strict in ("h1", "h2"):
        daemon = daemons[strict]
        argv = ["ssh", "-F", "none", "-o", f"UserKnownHostsFile={known}", "-o", "BatchMode=yes"]
        argv += ["-o", "StrictHostKeyChecking=yes", "-o", "IdentityAgent=none"]
        done = subprocess.run(
            [*argv, "-p", str(daemon.port), f"nobody@{daemon.address}", "true"],
            capture_output=True,
            text=True,
            check=False,
        )
        assert "Permission denied" in done.stderr, done.stderr
    assert sorted(path.name for path in known.parent.iterdir()) == ["known_hosts"]


def test_saying_it_again_writes_nothing(known: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert call(hosts.trust, yes=2) == 0
    first, stamp = known.read_text(), known.stat().st_mtime_ns
    assert first == "".join(sorted(first.splitlines(keepends=True)))
    assert call(hosts.trust) == 0  # nothing to ask for
    assert (known.read_text(), known.stat().st_mtime_ns) == (first, stamp)
    assert "nothing to write" in capsys.readouterr().err


def test_it_always_asks_and_a_dry_run_writes_nothing(
    known: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call(hosts.trust) == 6
    assert call(hosts.trust, yes=1) == 6
    assert call(hosts.trust, json=True) == 6
    assert call(hosts.trust, dry_run=True) == 0
    assert "SHA256:" in capsys.readouterr().err
    assert not known.exists()


def test_a_changed_key_is_named_loudly_and_nothing_is_written(
    known: Path, daemons: dict[str, Daemon], capsys: pytest.CaptureFixture[str]
) -> None:
    known.write_text(daemons["h2"].line("ed25519"))
    old = daemons["h2"].fingerprint("ed25519")
    daemons["h2"].stop()
    daemons["h2"].make("ed25519")
    daemons["h2"].start()
    before = known.read_text()
    assert call(hosts.trust, yes=2) == 6
    err = capsys.readouterr().err
    assert (
        "THE HOST KEY OF h2" in err and old in err and daemons["h2"].fingerprint("ed25519") in err
    )
    assert known.read_text() == before  # not even the other host's
    assert call(hosts.trust, yes=2, replace=True) == 0
    assert daemons["h2"].line("ed25519") in known.read_text()
    assert before not in known.read_text()


def test_a_revoked_key_is_refused_and_cannot_be_replaced(
    known: Path, daemons: dict[str, Daemon], capsys: pytest.CaptureFixture[str]
) -> None:
    pin = daemons["h2"].line("ed25519")
    revoked = "@revoked * " + " ".join(pin.split()[1:]) + "\n"
    for before in (revoked + pin, revoked):
        known.write_text(before)
        for replace in (False, True):
            assert call(hosts.trust, on="h2", yes=1, replace=replace) == 6
        assert "h2 SHOWS A HOST KEY THAT IS REVOKED" in capsys.readouterr().err
        assert call(hosts.trust, on="h2", json=True) == 6
        assert lines(capsys)[0]["state"] == "revoked"
        assert known.read_text() == before
    assert call(hosts.trust, on="h1", yes=1) == 0
    assert known.read_text().startswith(revoked)


def test_a_link_stays_one_and_bytes_that_are_no_text_stay(
    known: Path, daemons: dict[str, Daemon], tmp_path: Path
) -> None:
    (tmp_path / "shared").mkdir()
    target = tmp_path / "shared" / "known_hosts"
    target.write_bytes(b"# M\xfcller\nother ssh-ed25519 AAAA M\xfcller\n")
    known.symlink_to(target)
    assert call(hosts.trust, on="h2", yes=1) == 0
    assert known.is_symlink() and daemons["h2"].line("ed25519") in known.read_text("latin-1")
    assert target.read_bytes().count(b"M\xfcller\n") == 2


def test_a_host_that_shows_none_of_its_pinned_keys_is_not_known(
    known: Path, daemons: dict[str, Daemon], capsys: pytest.CaptureFixture[str]
) -> None:
    other = daemons["h1"].line("rsa").replace(ADDRESSES["h1"], ADDRESSES["h2"])
    known.write_text(other)  # h2 has no RSA key
    assert call(hosts.trust, on="h2", yes=1) == 6
    assert call(hosts.trust, on="h2", yes=1, replace=True) == 0
    assert known.read_text() == daemons["h2"].line("ed25519")


def test_a_further_key_of_a_known_host_is_new(
    known: Path, daemons: dict[str, Daemon], capsys: pytest.CaptureFixture[str]
) -> None:
    known.write_text(daemons["h1"].line("ed25519"))
    assert call(hosts.trust, on="h1", dry_run=True, json=True) == 0
    states = {row["type"]: row["state"] for row in lines(capsys) if row["event"] == "host_key"}
    assert states == {"ecdsa-sha2-nistp256": "new", "ssh-ed25519": "pinned", "ssh-rsa": "new"}


def test_a_silent_host_is_named_and_the_others_are_written(
    known: Path, daemons: dict[str, Daemon], capsys: pytest.CaptureFixture[str]
) -> None:
    daemons["h2"].stop()
    assert call(hosts.trust, yes=1, json=True) == 1
    *_, trusted, error = lines(capsys)
    assert trusted == {"schema_version": 1, "event": "trusted", "hosts": ["h1"]}
    assert error["hosts"] == ["h2"] and "Connection refused" in error["message"]
    assert "Errno" not in error["message"]
    assert ADDRESSES["h1"] in known.read_text() and ADDRESSES["h2"] not in known.read_text()
    daemons["h2"].start()


def test_a_file_that_changed_while_we_asked_is_not_overwritten(
    known: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hosts, "insist", lambda *words: known.write_text("# a colleague's\n"))
    assert call(hosts.trust, yes=2) == 1
    assert known.read_text() == "# a colleague's\n"


def test_a_host_behind_a_jump_host_is_asked_through_it(
    known: Path,
    daemons: dict[str, Daemon],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    home = tmp_path / "home" / ".ssh"
    home.mkdir(parents=True)
    argv = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(home / "id_ed25519")]
    subprocess.run(argv, check=True)
    jump = daemons["h1"]
    jump.stop()
    with (jump.folder / "sshd.conf").open("a") as file:
        file.write(f"AuthorizedKeysFile {home}/id_ed25519.pub\nLogLevel VERBOSE\n")
    jump.start()
    (home / "config").write_text(
        f"Host {ADDRESSES['h2']}\n  ProxyJump {getpass.getuser()}@{jump.address}:{jump.port}\n"
    )
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.delenv("SSH_AUTH_SOCK", raising=False)
    known.write_text("")
    assert call(hosts.trust, on="h2", yes=1) == 1  # the jump host is not pinned itself
    assert "no host key is pinned" in capsys.readouterr().err
    known.write_text(jump.line("ed25519"))
    assert call(hosts.trust, on="h2", yes=1) == 0
    assert daemons["h2"].line("ed25519") in known.read_text()
    assert "Accepted publickey" in (jump.folder / "log").read_text()


def test_hosts_that_share_a_key_are_told_of(
    known: Path, daemons: dict[str, Daemon], capsys: pytest.CaptureFixture[str]
) -> None:
    daemons["h2"].stop()
    for name in ("ed25519", "ed25519.pub"):
        (daemons["h2"].folder / name).write_bytes((daemons["h1"].folder / name).read_bytes())
    daemons["h2"].start()
    call(hosts.trust, dry_run=True)
    assert "the same key as h1" in capsys.readouterr().err


def test_the_list_of_hosts(known: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert call(hosts.list_) == 0
    out, err = capsys.readouterr()
    assert "h1" in out and f"{ADDRESSES['h1']}:" in out and "10.0.0.2" in out
    assert "2 hosts: h[1-2]" in err
    assert call(hosts.list_, on="one", json=True) == 0
    (row,) = lines(capsys)
    assert (row["host"], row["address"], row["zone"]) == ("h1", ADDRESSES["h1"], "a")
    assert call(hosts.list_, fold=True, on="h1") == 0
    assert [line.split() for line in capsys.readouterr().out.splitlines()][1:] == [
        ["all_h", "1", "h1"],
        ["one", "1", "h1"],
    ]
    assert call(hosts.list_, on="h7") == 1


# The file itself.

BLOBS = [base64.b64encode(f"key {n}".encode()).decode() for n in range(4)]


def offer(place: str, blob: str, kind: str = "ssh-ed25519") -> trust.Offer:
    return trust.Offer(place, place, {kind: blob})


def merge(text: str, *offers: trust.Offer) -> str:
    return trust.merged(text, offers, trust.compare(text, offers))


def test_names_that_share_a_line_lose_only_the_one_that_changed() -> None:
    text = f"a,b ssh-ed25519 {BLOBS[0]} made by hand\n"
    assert merge(text, offer("b", BLOBS[1])) == (
        f"a ssh-ed25519 {BLOBS[0]} made by hand\nb ssh-ed25519 {BLOBS[1]}\n"
    )


def test_hashed_names_are_found() -> None:
    salt = b"salt salt salt salt!"
    digest = hmac.new(salt, b"a", hashlib.sha1).digest()
    name = f"|1|{base64.b64encode(salt).decode()}|{base64.b64encode(digest).decode()}"
    text = f"{name} ssh-ed25519 {BLOBS[0]}\n"
    assert [key.state for key in trust.compare(text, [offer("a", BLOBS[0])])] == ["pinned"]
    assert [key.state for key in trust.compare(text, [offer("a", BLOBS[1])])] == ["changed"]
    assert [key.state for key in trust.compare(text, [offer("z", BLOBS[1])])] == ["new"]
    assert merge(text, offer("a", BLOBS[1])) == f"a ssh-ed25519 {BLOBS[1]}\n"


def hashed(place: str) -> str:
    salt = b"salt salt salt salt!"
    digest = hmac.new(salt, place.encode(), hashlib.sha1).digest()
    return f"|1|{base64.b64encode(salt).decode()}|{base64.b64encode(digest).decode()}"


@pytest.mark.parametrize("names", [("a", "a"), ("a", "b,a"), (hashed("a"), hashed("a"))])
def test_of_two_keys_of_a_kind_the_first_counts_as_it_does_for_connections(
    names: tuple[str, str],
) -> None:
    text = "".join(f"{n} ssh-ed25519 {blob}\n" for n, blob in zip(names, BLOBS[1::-1], strict=True))
    first, second = offer("a", BLOBS[1]), offer("a", BLOBS[0])
    assert [key.state for key in trust.compare(text, [first])] == ["pinned"]
    (key,) = trust.compare(text, [second])
    assert (key.state, key.was) == ("changed", trust.fingerprint(BLOBS[1]))
    kept = merge(text, second)  # what --replace writes
    assert [key.state for key in trust.compare(kept, [second])] == ["pinned"]
    assert trust.compare(kept, [first])[0].state == "changed"
    other = merge(text, first, offer("c", BLOBS[2]))
    assert trust.compare(other, [first])[0].state == "pinned"


def test_the_key_that_counts_is_not_the_one_of_a_hashed_name_nor_a_revoked_one() -> None:
    lines = [f"{hashed('a')} ssh-ed25519 {BLOBS[0]}\n", f"a ssh-ed25519 {BLOBS[1]}\n"]
    assert trust.compare("".join(lines), [offer("a", BLOBS[1])])[0].state == "pinned"
    assert trust.compare("".join(lines), [offer("a", BLOBS[0])])[0].state == "changed"
    revoked = {"a": {BLOBS[1]}}
    assert trust.compare("".join(lines), [offer("a", BLOBS[0])], revoked)[0].state == "pinned"
    assert trust.compare(lines[1], [offer("a", BLOBS[0])], revoked)[0].state == "changed"


def test_what_is_not_ours_stays() -> None:
    text = f"# first\n\n@revoked * ssh-rsa {BLOBS[2]}\nnonsense\nh10 ssh-rsa {BLOBS[0]}\n"
    found = merge(text, offer("h9", BLOBS[1]))
    assert found.splitlines() == [
        "# first",
        f"@revoked * ssh-rsa {BLOBS[2]}",
        "nonsense",
        f"h9 ssh-ed25519 {BLOBS[1]}",
        f"h10 ssh-rsa {BLOBS[0]}",
    ]
    assert merge(found, offer("h9", BLOBS[1])) == found
