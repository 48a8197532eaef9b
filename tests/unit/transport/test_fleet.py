"""Hosts that lie, hang, refuse or vanish: each is named, and nobody else waits for them."""

from __future__ import annotations

import dataclasses
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import paramiko
import pytest
from ssh_server import Server, Session

from backline.transport import connection, host_keys, upload
from backline.transport.fleet import SshFleet
from backline.transport.port import HostError, Target, Unreachable

HOSTCTL = "sudo -n /usr/local/bin/hostctl"


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("keys") / "key"
    paramiko.ECDSAKey.generate().write_private_key_file(str(path))
    return path


@pytest.fixture
def server(tmp_path: Path, keys: Path) -> Iterator[Server]:
    (tmp_path / "host" / upload.INCOMING[1:]).mkdir(parents=True)
    running = Server(tmp_path / "host", paramiko.ECDSAKey.from_private_key_file(str(keys)))
    yield running
    running.close()


@pytest.fixture
def known(tmp_path: Path, server: Server) -> Path:
    path = tmp_path / "known_hosts"
    path.write_text(server.pinned())
    return path


@pytest.fixture
def target(server: Server, keys: Path) -> Target:
    return Target("stream1", "127.0.0.1", server.port, "deploy", str(keys))


@pytest.fixture
def fleet(target: Target, known: Path) -> Iterator[SshFleet]:
    with SshFleet({"stream1": target}, known) as made:
        yield made


def failure(fleet: SshFleet, host: str = "stream1") -> HostError:
    with pytest.raises(HostError) as raised:
        fleet.call(host, "facts", {}, deadline=5)
    return raised.value


def test_hostctl_is_asked_in_json_and_answers_in_json(fleet: SshFleet, server: Server) -> None:
    server.commands[f"{HOSTCTL} echo"] = 'read ask; printf \'{"ok": true, "asked": %s}\' "$ask"'
    assert fleet.call("stream1", "echo", {"app": "x"}) == {"ok": True, "asked": {"app": "x"}}


def test_a_large_answer_and_a_lot_on_stderr_do_not_block_each_other(
    fleet: SshFleet, server: Server
) -> None:
    server.commands[HOSTCTL] = (
        "cat >/dev/null; head -c 3000000 /dev/zero >&2; "
        'printf \'{"ok": true, "x": "\'; head -c 3000000 /dev/zero | tr "\\0" a; printf \'"}\''
    )
    assert len(fleet.call("stream1", "facts", {})["x"]) == 3_000_000


def test_one_connection_serves_all_calls(fleet: SshFleet, server: Server) -> None:
    server.commands[HOSTCTL] = "echo '{\"ok\": true}'"
    for _ in range(3):
        fleet.each(["stream1"], lambda host: fleet.call(host, "facts", {}), deadline=5)
    assert server.connections == 1


def test_no_connection_changes_the_configuration_that_all_share(
    fleet: SshFleet, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Fabric merges it anew when it takes an attribute for a setting: other threads find it empty."""
    server.commands[HOSTCTL] = "echo '{\"ok\": true}'"
    shared, merged = fleet._settings(), []
    monkeypatch.setattr(type(shared), "merge", lambda config: merged.append(config))
    assert fleet.call("stream1", "facts", {})["ok"]
    fleet.close()
    assert not merged


def test_a_broken_connection_is_made_again(fleet: SshFleet, server: Server) -> None:
    server.commands[HOSTCTL] = "echo '{\"ok\": true}'"
    fleet.call("stream1", "facts", {})
    server.cut()
    end = time.monotonic() + 10
    while fleet._connections["stream1"].is_connected:  # until it has been noticed here
        assert time.monotonic() < end
        time.sleep(0.01)
    assert fleet.call("stream1", "facts", {})["ok"]


def test_hostctls_own_words_arrive(fleet: SshFleet, server: Server) -> None:
    server.commands[HOSTCTL] = (
        'echo \'{"ok": false, "error": {"code": "lease_held", "message": "ann is at it", '
        '"hint": "wait", "holder": "ann"}}\'; exit 5'
    )
    error = failure(fleet)
    assert (error.code, error.message, error.hint) == ("lease_held", "ann is at it", "wait")
    assert (error.exit_code, error.details["holder"]) == (5, "ann")


@pytest.mark.parametrize(
    ("script", "code"),
    [
        ("echo 'sudo: hostctl: command not found' >&2; exit 1", "no_hostctl"),
        ("echo 'sudo: a password is required' >&2; exit 1", "no_hostctl"),
        ("echo Traceback >&2; exit 1", "no_answer"),
        ("echo not json", "no_answer"),
        ("echo '[]'", "no_answer"),
    ],
)
def test_no_answer_is_explained(fleet: SshFleet, server: Server, script: str, code: str) -> None:
    server.commands[HOSTCTL] = script
    assert failure(fleet).code == code


def test_a_wrong_host_key_is_refused_with_both_fingerprints(
    fleet: SshFleet, server: Server, known: Path
) -> None:
    other = paramiko.ECDSAKey.generate()
    known.write_text(server.pinned(other))
    error = failure(fleet)
    assert isinstance(error, Unreachable) and error.code == "host_key_changed"
    assert f"expected {connection.fingerprint(other)}" in error.message
    assert f"offered {connection.fingerprint(server.key)}" in error.message
    trust = f"fab hosts.trust --env {known.parent.name} --on {error.host}"
    assert error.hint.endswith(f"then {trust} --replace")
    assert not any(transport.is_authenticated() for transport in server.transports)


def test_a_key_that_is_not_pinned_is_refused(
    fleet: SshFleet, server: Server, known: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = known.parent / ".ssh"
    home.mkdir()
    (home / "known_hosts").write_text(server.pinned())  # must not count
    monkeypatch.setenv("HOME", str(known.parent))
    known.write_text("")
    error = failure(fleet)
    trust = f"fab hosts.trust --env {known.parent.name} --on {error.host}, "
    assert error.code == "host_key_unknown"
    assert "no host key is pinned" in error.message and error.hint.startswith(trust)
    known.unlink()
    error = failure(fleet)
    assert "there is no" in error.message and trust in error.hint


@pytest.fixture
def jump(tmp_path: Path, keys: Path, server: Server, known: Path) -> Iterator[Server]:
    """A pinned jump host before `server`, which the SSH configuration calls stream1.test."""
    running = Server(tmp_path / "jump", paramiko.ECDSAKey.from_private_key_file(str(keys)))
    known.write_text(server.pinned() + running.pinned())
    (tmp_path / ".ssh").mkdir()
    (tmp_path / ".ssh" / "config").write_text(
        f"Host stream1.test\n  HostName 127.0.0.1\n  ProxyJump deploy@127.0.0.1:{running.port}\n"
        f"Host 127.0.0.1\n  IdentityFile {keys}\n"
    )
    yield running
    running.close()


@pytest.fixture
def behind(
    target: Target, known: Path, jump: Server, monkeypatch: pytest.MonkeyPatch
) -> Iterator[SshFleet]:
    """stream1 behind the jump host."""
    monkeypatch.setenv("HOME", str(known.parent))
    monkeypatch.delenv("SSH_AUTH_SOCK", raising=False)
    target = dataclasses.replace(target, address="stream1.test")
    with SshFleet({"stream1": target}, known) as made:
        yield made


def test_a_jump_hosts_key_is_not_called_the_key_of_the_host_behind_it(
    behind: SshFleet, server: Server, jump: Server, known: Path
) -> None:
    where, other = f"127.0.0.1 port {jump.port}", paramiko.ECDSAKey.generate()
    by_hand = "A jump host is pinned by hand"
    known.write_text(server.pinned() + jump.pinned(other))
    error = failure(behind)
    assert error.code == "host_key_changed"
    assert error.message.startswith(f"jump host: wrong host key from {where}: expected")
    assert error.hint.startswith("somebody may stand in between") and by_hand in error.hint
    known.write_text(server.pinned())
    unknown = failure(behind)
    assert unknown.code == "host_key_unknown"
    assert unknown.message.startswith(f"jump host: no host key is pinned for {where}; it offered")
    with pytest.raises(Unreachable) as asked:
        host_keys.offered(behind.targets["stream1"], known)
    assert asked.value.message == unknown.message
    for found in (error, unknown, asked.value):
        assert "hosts.trust" not in found.hint and by_hand in found.hint
        assert isinstance(found, Unreachable) and not found.sent
    known.write_text(server.pinned(other) + jump.pinned())
    assert "hosts.trust" in failure(behind).hint  # the host's own key is its own


def test_a_jump_host_that_is_down_or_lets_nobody_in_is_named(
    behind: SshFleet, jump: Server, target: Target, known: Path
) -> None:
    where = f"jump host: deploy@127.0.0.1 port {jump.port}"
    way = connection.PinnedConnection(f"deploy@127.0.0.1:{jump.port}", known_hosts=known)
    failed = connection.JumpHostFailed(way, paramiko.AuthenticationException("no"))
    refused = connection.explain(target, known, failed)
    assert refused.code == "authentication" and refused.message.startswith(
        f"{where} refuses our key"
    )
    assert "ssh" in refused.hint and "fab provision" not in refused.hint
    jump.close()
    error = failure(behind)
    assert (error.code, error.message) == ("refused", f"{where}: Connection refused")


def ended(jump: Server) -> bool:
    """Whether every connection to the jump host is over, within seconds."""
    end = time.monotonic() + 5
    while any(transport.is_active() for transport in jump.transports):
        if time.monotonic() > end:
            return False
        time.sleep(0.01)
    return bool(jump.transports)


def test_no_connection_to_a_jump_host_outlives_the_one_behind_it(
    behind: SshFleet, server: Server, jump: Server, known: Path
) -> None:
    server.commands[HOSTCTL] = "echo '{\"ok\": true}'"
    assert behind.call("stream1", "facts", {})["ok"]
    server.cut()
    stop = time.monotonic() + 10
    while behind._connections["stream1"].is_connected:
        assert time.monotonic() < stop
        time.sleep(0.01)
    assert behind.call("stream1", "facts", {})["ok"]  # over a new one
    assert jump.connections == 2 and not jump.transports[0].is_active()
    behind.close()
    assert ended(jump)
    known.write_text(server.pinned(paramiko.ECDSAKey.generate()) + jump.pinned())
    assert failure(behind).code == "host_key_changed" and ended(jump)
    known.write_text(server.pinned() + jump.pinned())
    server.close()
    assert "stream1.test" in failure(behind).message and ended(jump)
    assert jump.connections == 4


def test_a_key_of_ours_that_is_refused(target: Target, known: Path, tmp_path: Path) -> None:
    paramiko.ECDSAKey.generate().write_private_key_file(str(tmp_path / "other"))
    fleet = SshFleet({"h": dataclasses.replace(target, key_file=str(tmp_path / "other"))}, known)
    error = failure(fleet, "h")
    assert error.code == "authentication", error.message
    assert "fab provision" in error.hint
    fleet = SshFleet({"h": dataclasses.replace(target, key_file=str(tmp_path / "none"))}, known)
    assert "there is no private key" in failure(fleet, "h").message


@contextmanager
def port(says: bytes, closes: bool) -> Iterator[int]:
    """A port where somebody says that much to each who connects, and hangs up, or does not."""
    open_ones = []

    def serve() -> None:
        with suppress(OSError):
            while True:
                one, _ = listening.accept()
                one.sendall(says)
                open_ones.append(one)
                if closes:
                    one.shutdown(socket.SHUT_WR)

    with socket.create_server(("127.0.0.1", 0)) as listening:
        threading.Thread(target=serve, daemon=True).start()
        yield listening.getsockname()[1]
    for one in open_ones:
        one.close()


@pytest.mark.parametrize("says", [b"", b"HTTP/1.0 400 Bad request\r\n", b"SSH-2.0-x\r\n"])
@pytest.mark.parametrize(("closes", "kind"), [(True, "lost"), (False, "timeout")])
def test_a_host_that_hangs_up_is_not_called_slow_nor_a_slow_one_gone(
    says: bytes,
    closes: bool,
    kind: str,
    target: Target,
    known: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """sshd does so when too many log in at once; so does whatever else listens on a port."""
    monkeypatch.setattr(connection, "CONNECT_SECONDS", 1)
    monkeypatch.setattr(host_keys, "CONNECT_SECONDS", 1)
    with port(says, closes) as number:
        other = dataclasses.replace(target, port=number)
        with SshFleet({"stream1": other}, known) as fleet:
            error = failure(fleet)
        with pytest.raises(Unreachable) as raised:
            host_keys.offered(other, known)
    for found in (error, raised.value):
        assert isinstance(found, Unreachable) and not found.sent
        assert found.code == kind, found.message
        assert ("closed the connection" in found.message) == closes


@pytest.mark.parametrize(("closes", "kind"), [(True, "lost"), (False, "timeout")])
def test_a_host_that_dies_or_hangs_while_we_log_in_does_not_refuse_our_key(
    closes: bool,
    kind: str,
    fleet: SshFleet,
    server: Server,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(connection, "CONNECT_SECONDS", 2)

    def stuck(self: Session, username: str, key: paramiko.PKey) -> int:
        if closes:
            server.cut()
        time.sleep(3)
        return paramiko.AUTH_FAILED

    monkeypatch.setattr(Session, "check_auth_publickey", stuck)
    error = failure(fleet)
    assert error.code == kind and "refuses" not in error.message and "provision" not in error.hint


def test_a_hung_command_ends_at_its_deadline(fleet: SshFleet, server: Server) -> None:
    server.commands[HOSTCTL] = "sleep 30"
    began = time.monotonic()
    with pytest.raises(Unreachable, match="no answer within 0 s"):
        fleet.call("stream1", "facts", {}, deadline=0.3)
    assert time.monotonic() - began < 2


def test_dead_and_silent_hosts_delay_nobody(
    target: Target, server: Server, known: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection, "CONNECT_SECONDS", 1)
    server.commands[HOSTCTL] = "echo '{\"ok\": true}'"
    with socket.create_server(("127.0.0.1", 0)) as silent, socket.create_server(("", 0)) as closed:
        gone = closed.getsockname()[1]
        closed.close()
        known.write_text(server.pinned())
        targets = {
            "stream1": target,
            "silent": dataclasses.replace(target, name="silent", port=silent.getsockname()[1]),
            "dead": dataclasses.replace(target, name="dead", port=gone),
        }
        ended: dict[str, float] = {}
        began = time.monotonic()
        with SshFleet(targets, known) as fleet:
            outcomes = fleet.each(
                targets,
                lambda host: fleet.call(host, "facts", {}),
                deadline=5,
                done=lambda host, outcome: ended.setdefault(host, time.monotonic() - began),
            )
    assert outcomes["stream1"].value == {"ok": True}
    assert outcomes["dead"].error and outcomes["dead"].error.code == "refused"
    assert outcomes["silent"].error and outcomes["silent"].error.code == "timeout"
    assert ended["stream1"] < ended["silent"] < 4


def test_uploads_get_their_name_when_whole_and_go_on_where_they_stopped(
    fleet: SshFleet, server: Server, tmp_path: Path
) -> None:
    content = bytes(range(256)) * 1000
    source = tmp_path / "release.tar.zst"
    source.write_bytes(content)
    folder = server.root / upload.INCOMING[1:]
    (folder / upload.part_name(source.name)).write_bytes(content[:100_000])
    seen: list[tuple[str, int, int]] = []
    fleet.ship("stream1", [source], lambda *what: seen.append(what))
    assert (folder / source.name).read_bytes() == content
    assert sorted(path.name for path in folder.iterdir()) == [source.name]
    assert 100_000 < seen[0][1] < seen[-1][1] == seen[-1][2] == len(content)
    seen.clear()
    fleet.ship("stream1", [source], lambda *what: seen.append(what))
    assert [what[1] for what in seen] == [len(content)]  # there already: nothing travels
    fleet.discard("stream1", [source.name, "never.there"])
    assert not list(folder.iterdir())


def test_an_upload_that_is_refused_is_the_hosts_error(
    fleet: SshFleet, server: Server, tmp_path: Path
) -> None:
    (server.root / upload.INCOMING[1:]).rmdir()
    source = tmp_path / "file"
    source.write_text("x")
    with pytest.raises(HostError) as raised:
        fleet.ship("stream1", [source], lambda *what: None)
    assert raised.value.host == "stream1" and raised.value.code == "upload"


def test_commands_run_under_guard(fleet: SshFleet) -> None:
    reply = fleet.run("stream1", "echo out; echo err >&2; exit 7", deadline=5)
    assert (reply.code, reply.stdout, reply.stderr) == (7, b"out\n", b"err\n")


@pytest.mark.parametrize("kind", [[], ["-m", "PEM"]])
def test_a_key_with_a_passphrase_is_left_to_the_agent(tmp_path: Path, kind: list[str]) -> None:
    path = tmp_path / "key"
    words = ["ssh-keygen", "-q", "-t", "rsa", "-N", "a phrase", "-f", str(path), *kind]
    subprocess.run(words, check=True)
    assert connection._private_key(path) == {"look_for_keys": False, "allow_agent": True}
