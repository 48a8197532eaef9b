"""What an intruder in one of the processes could reach."""

from __future__ import annotations

import json

from conftest import OLD


def test_settings_arrive_as_they_were_given_and_are_private(host, get):
    seen = json.loads(get("/environment").text)
    assert seen["JUKEBOX_SECRET_KEY"] == "quotes\"dollar$back\\slash`tick 'and #spaces"
    assert seen["JUKEBOX_BROKER_URL"] == "amqp://a:b@broker1//;amqp://a:b@broker2//"
    file = host.file("/etc/jukebox/jukebox.env")
    assert (file.mode, file.user, file.group) == (0o640, "root", "jukebox")


def test_the_application_writes_to_its_own_places_only(get):
    assert json.loads(get("/writes").text) == {
        "/srv/jukebox/shared": True,
        "/run/jukebox": True,
        f"/srv/jukebox/releases/{OLD}": False,
        "/etc": False,
        "/var/lib": False,
    }


def test_only_nginx_reaches_the_socket(host):
    socket = host.file(f"/run/jukebox/{OLD}.sock")
    assert (socket.user, socket.group, socket.mode & 0o007) == ("jukebox", "www-data", 0)
    ask = f"curl -s --unix-socket /run/jukebox/{OLD}.sock http://app/version"
    assert host.run(f"setpriv --reuid=www-data --regid=www-data --clear-groups {ask}").rc == 0
    assert host.run(f"setpriv --reuid=nobody --regid=nogroup --clear-groups {ask}").rc != 0


def test_nothing_runs_as_root(host):
    # In one look: a worker that an earlier reload left may end between two.
    assert set(host.check_output("ps -C nginx -o user=").split()) == {"www-data"}
    pid = host.run(f"systemctl show -P MainPID jukebox-web@{OLD}").stdout.strip()
    status = host.file(f"/proc/{pid}/status").content_string
    assert "CapEff:\t0000000000000000" in status and "NoNewPrivs:\t1" in status
    assert "Seccomp:\t2" in status


def test_the_sandboxes_are_tight(host):
    for unit, limit in ((f"jukebox-web@{OLD}", 1.5), ("nginx", 2.5)):
        words = host.run(f"systemd-analyze security --no-pager {unit}.service | tail -1").stdout
        assert float(words.split(": ")[1].split()[0]) <= limit, words


def test_hostctl_is_told(host):
    folder = "/etc/backline/apps/jukebox"
    assert json.loads(host.file(f"{folder}/app.json").content_string) == {
        "app": "jukebox",
        "user": "jukebox",
        "group": "jukebox",
        "env_file": "/etc/jukebox/jukebox.env",
        "root": "/srv/jukebox",
        "run": "/run/jukebox",
    }
    assert json.loads(host.file(f"{folder}/processes/web.json").content_string) == {
        "name": "web",
        "process": "web",
        "kind": "http",
        "unit": "jukebox-web@.service",
        "parameters": {"workers": "2"},
    }


def test_debians_own_site_is_not_served(host):
    ports = host.run("ss -Hltn | awk '{print $4}' | sed 's/.*://' | sort -un").stdout.split()
    assert "80" not in ports and {"8080", "8081", "8082"} <= set(ports)
    assert host.service("nginx").is_enabled and host.service("nginx").is_running
