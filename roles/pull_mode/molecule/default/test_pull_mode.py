"""What is committed reaches the host; what nobody trusted signed does not."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest

METRICS = "/var/lib/prometheus/node-exporter/backline_pull.prom"
Commit = Callable[..., None]


@pytest.fixture(scope="module")
def secrets(host) -> dict[str, str]:
    """The secret of this host, and one that only another host can read, both as vault strings."""

    def encrypt(vault_id: str, password: str, value: str) -> str:
        host.run_expect([0], f"umask 077; echo {password} > /root/.vault")
        vault = host.check_output("ls -d /opt/backline-pull/*/bin/ansible-vault")
        words = f"{vault} encrypt_string --vault-id {vault_id}@/root/.vault '{value}'"
        return host.check_output(words).replace("\n", "\n      ")

    return {
        "own": encrypt("mol-pull-mode", "of-this-host-alone", "mine"),
        "other": encrypt("another", "of-the-other-host", "theirs"),
    }


@pytest.fixture
def commit(host, secrets) -> Commit:
    """Commits a word to the repository, signed unless told otherwise."""

    def do(word: str, signed: bool = True) -> None:
        hosts = (
            "all:\n  hosts:\n    mol-pull-mode:\n      ansible_user: somebody\n"
            f"      word: {word}\n      secret: {secrets['own']}\n"
            f"    another:\n      word: {word}\n      secret: {secrets['other']}\n"
        )
        host.run_expect([0], f"cat > /srv/work/inventory/test/hosts.yml <<'END'\n{hosts}END")
        flag = "-S" if signed else "--no-gpg-sign"
        host.check_output(
            "cd /srv/work && git add -A && git commit --quiet --allow-empty"
            f" {flag} -m {word} && git push --quiet origin main 2>&1"
        )

    return do


def pull(host) -> int:
    """Runs the timer's unit; returns the exit code of what it ran."""
    # Many runs in a few seconds are what systemd refuses, with the exit code of the run before.
    host.run("systemctl reset-failed backline-pull.service")
    host.run("systemctl start backline-pull.service")
    shown = host.check_output("systemctl show backline-pull.service -P ExecMainStatus")
    return int(shown)


def metric(host, name: str) -> float:
    found = re.search(rf"^backline_pull_{name} (\S+)$", host.file(METRICS).content_string, re.M)
    assert found, f"no metric {name}"
    return float(found[1])


def log(host) -> str:
    return host.check_output("journalctl -u backline-pull.service -o cat -n 200")


def test_a_commit_reaches_the_host_with_its_own_secret(host, commit: Commit) -> None:
    commit("first")
    assert pull(host) == 0, log(host)
    assert host.file("/etc/pulled").content_string == "mol-pull-mode first mine\n"
    assert (metric(host, "success"), metric(host, "changed_tasks")) == (1, 1)


def test_the_second_run_changes_nothing(host, commit: Commit) -> None:
    assert pull(host) == 0, log(host)
    assert (metric(host, "success"), metric(host, "changed_tasks")) == (1, 0)


def test_the_metrics_say_which_commit_runs_here(host) -> None:
    commit = host.check_output("git -C /srv/work rev-parse HEAD")
    assert f'revision="{commit}"' in host.file(METRICS).content_string
    assert host.file(METRICS).mode == 0o644, "the node exporter could not read it"


def drop(host) -> None:
    """Takes the last commit back, on the server too."""
    host.check_output(
        "cd /srv/work && git reset --quiet --hard HEAD~1 && git push -q -f origin main 2>&1"
    )


def test_an_unsigned_commit_is_refused_and_nothing_of_it_is_checked_out(
    host, commit: Commit
) -> None:
    good = metric(host, "last_success_timestamp_seconds")
    commit("evil", signed=False)
    assert pull(host) == 76
    assert "not signed by anybody" in log(host)
    assert "evil" not in host.file("/etc/pulled").content_string
    assert not host.run("grep -r evil /var/lib/backline/pull/checkout").stdout
    assert metric(host, "success") == 0
    assert metric(host, "last_success_timestamp_seconds") == good > 0
    drop(host)
    commit("second")
    assert pull(host) == 0, log(host)
    assert "second" in host.file("/etc/pulled").content_string


def test_a_commit_signed_by_a_stranger_is_refused(host, commit: Commit) -> None:
    host.run("ssh-keygen -q -t ed25519 -N '' -f /root/stranger")
    host.check_output("git -C /srv/work config user.signingkey /root/stranger")
    try:
        commit("strange")
        assert pull(host) == 76
        assert "strange" not in host.file("/etc/pulled").content_string
    finally:
        host.check_output("git -C /srv/work config user.signingkey /root/signer")
        drop(host)


def test_an_old_commit_is_not_taken_again_though_it_is_signed(host, commit: Commit) -> None:
    commit("third")
    assert pull(host) == 0, log(host)
    host.check_output("cd /srv/work && git push -q -f origin HEAD~1:main 2>&1")
    assert pull(host) == 76
    assert "third" in host.file("/etc/pulled").content_string
    host.check_output("cd /srv/work && git push -q -f origin main 2>&1")
    assert pull(host) == 0, log(host)


def test_two_runs_never_overlap(host) -> None:
    busy = host.run("flock /run/backline/pull.lock /usr/local/lib/backline/pull")
    assert busy.rc == 75
    assert "another run is at work" in busy.stderr


def test_the_timer_waits_at_a_place_of_its_own(host) -> None:
    assert host.service("backline-pull.timer").is_running
    assert host.service("backline-pull.timer").is_enabled
    timer = host.file("/etc/systemd/system/backline-pull.timer").content_string
    for line in ("RandomizedDelaySec=30min", "FixedRandomDelay=yes", "Persistent=yes"):
        assert line in timer


@pytest.mark.parametrize("name", ["vault_password", "settings.json", "allowed_signers"])
def test_only_root_reads_the_settings(host, name: str) -> None:
    entry = host.file(f"/etc/backline/pull/{name}")
    assert (entry.user, entry.mode) == ("root", 0o600)
    assert host.file("/etc/backline/pull").mode == 0o700


def test_no_secret_is_in_the_journal_or_on_a_command_line(host) -> None:
    assert "of-this-host-alone" not in log(host)
    assert "mine" not in log(host)
    assert "of-this-host-alone" not in host.file("/etc/backline/pull/settings.json").content_string
