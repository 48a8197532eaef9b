"""What a deploy relies on after the role: hostctl answers the user that deploys, and only that."""

import json
import time

RELEASE = "20261122T190501Z-1a2b3c1"
UNIT = f"trial-work@{RELEASE}.service"


def ask(host, verb, request, user="deploy"):
    ended = host.run(f"echo '{json.dumps(request)}' | sudo -u {user} sudo -n hostctl {verb}")
    return ended.rc, json.loads(ended.stdout or "{}")


def test_the_deploying_user_runs_hostctl(host):
    status, facts = ask(host, "facts", {})
    assert status == 0 and facts["protocol"] == 2
    assert facts["python"].startswith("3.11") and facts["disk_free"] > 0
    assert facts["hostctl_sha256"] == host.file("/usr/local/bin/hostctl").sha256sum


def test_the_deploying_user_runs_nothing_else_as_root(host):
    assert host.run("sudo -u deploy sudo -n id").rc != 0
    assert host.run("sudo -u deploy sudo -n -u nobody /usr/local/bin/hostctl --version").rc != 0
    flags = "--app x --process y --release 20260101T000000Z-aaaaaaa"
    refused = host.run(f"sudo -u deploy sudo -n hostctl exec {flags}")
    assert refused.rc == 6 and "never runs as root" in refused.stderr


def test_the_program_and_its_settings_belong_to_root(host):
    for path, mode in (
        ("/usr/local/bin/hostctl", 0o755),
        ("/etc/backline/allowed_signers", 0o644),
        ("/etc/sudoers.d/60-hostctl", 0o440),
        ("/var/lib/backline", 0o755),
    ):
        found = host.file(path)
        assert (found.user, found.group, found.mode) == ("root", "root", mode), path


def test_uploads_have_a_place_of_their_own(host):
    incoming = host.file("/var/lib/backline/incoming")
    assert incoming.is_directory
    assert (incoming.user, incoming.group, incoming.mode) == ("deploy", "deploy", 0o750)


def test_the_signers_are_ones_ssh_keygen_can_read(host):
    lines = host.file("/etc/backline/allowed_signers").content_string.splitlines()
    assert [line for line in lines if not line.startswith("#")] == [
        'release@backline namespaces="backline-release,backline-hostctl" '
        "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJ8aPmPqZWzTqHq0l3tLbYgqzVbFvTPXJtYl0mFdn0aT ci"
    ]


def test_a_lease_survives_the_program_and_the_journal_names_who_took_it(host):
    request = {"app": "trial", "run": "r", "token": 1, "action": "take", "holder": "test"}
    status, answer = ask(host, "lease", request)
    assert status == 0 and answer["lease"]["holder"] == "test"
    other = {**request, "run": "s", "token": 2}
    assert ask(host, "lease", other)[0] == 5
    _, journal = ask(host, "journal", {"app": "trial"})
    assert journal["intact"] and journal["entries"][0]["actor"] == "deploy"
    seen = host.check_output("journalctl -t hostctl -o json --no-pager | head -1")
    assert json.loads(seen)["BACKLINE_RUN"] == "r"


def put(host, path, content):
    host.check_output(f"mkdir -p $(dirname {path}) && printf '%s' '{content}' > {path}")


def test_a_process_is_stopped_later_by_a_timer_of_its_own(host):
    apps = "/etc/backline/apps/trial"
    work = {"name": "work", "process": "work", "kind": "worker", "unit": "trial-work@.service"}
    release = {"id": RELEASE, "processes": {"work": {"command": ["sleep"], "stop_timeout": 5}}}
    put(host, f"{apps}/app.json", json.dumps({"app": "trial"}))
    put(host, f"{apps}/processes/work.json", json.dumps(work))
    put(host, f"/srv/trial/releases/{RELEASE}/release.json", json.dumps(release))
    unit = "[Service]\nType=exec\nExecStart=/bin/sleep 600\n"
    put(host, "/etc/systemd/system/trial-work@.service", unit)
    host.check_output("systemctl daemon-reload")
    token = ask(host, "lease", {"app": "trial", "action": "show"})[1]["fence"] + 1
    who = {"app": "trial", "run": "r", "token": token}
    assert ask(host, "lease", {**who, "action": "take", "holder": "test"})[0] == 0
    what = {**who, "process": "work", "release": RELEASE}
    assert ask(host, "start", what)[0] == 0
    assert ask(host, "stop", {**what, "after": 600})[1]["scheduled"] == 600
    assert ask(host, "stop", {**what, "after": 1})[1]["already"] is True
    assert ask(host, "start", what)[1]["already"] is True  # needed again: the timer is gone
    assert "backline-retire" not in host.check_output("systemctl list-timers --all")
    assert ask(host, "stop", {**what, "after": 1})[1]["already"] is False
    for _ in range(50):
        if host.run(f"systemctl is-active {UNIT}").rc != 0:
            break
        time.sleep(0.2)
    time.sleep(0.5)
    entries = ask(host, "journal", {"app": "trial"})[1]["entries"]
    told = [(entry["verb"], entry["event"], entry["actor"]) for entry in entries]
    assert told[-2:] == [("retire", "begin", "timer"), ("retire", "done", "timer")]
    flags = f"--app trial --process work --release {RELEASE}"
    assert host.run(f"sudo -u deploy sudo -n hostctl retire {flags}").rc == 6
    assert ask(host, "lease", {**who, "action": "release"})[0] == 0
