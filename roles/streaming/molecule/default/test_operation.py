"""What an SRE relies on: switches, reloads and drains that no listener hears."""

from __future__ import annotations

import json
import time

from conftest import NEW, OLD, live

# Requests until the file `stop` is there; prints which answers came how often.
CLIENT = r"""
import collections, http.client, os
seen = collections.Counter()
while not os.path.exists('stop'):
    try:
        c = http.client.HTTPConnection('127.0.0.1', 8080, timeout=10)
        c.request('GET', '/version')
        r = c.getresponse()
        seen[f'{r.status} {r.read().decode()}'] += 1
    except OSError as error:
        seen[repr(error)] += 1
print(dict(seen))
"""


def client(host, during: str) -> dict[str, int]:
    """Runs two clients while the shell commands `during` run; counts the answers."""
    done = host.run(
        "bash -c %s bash %s",
        f'cd $(mktemp -d); for n in 1 2; do python3 -c "$1" >$n & done; sleep 0.3; {during}\n'
        "sleep 0.3; touch stop; wait; cat 1 2",
        CLIENT,
    )
    assert done.rc == 0, done.stderr
    total: dict[str, int] = {}
    for line in done.stdout.splitlines():
        for answer, count in json.loads(line.replace("'", '"')).items():
            total[answer] = total.get(answer, 0) + count
    return total


def test_a_hundred_switches_fail_no_request(host):
    switch = (
        "ln -sfn {}.sock /run/jukebox/.next && mv -T /run/jukebox/.next /run/jukebox/current.sock"
    )
    seen = client(
        host,
        f"for i in $(seq 50); do {switch.format(NEW)}; sleep 0.02; {switch.format(OLD)}; sleep 0.02; done",
    )
    assert set(seen) == {f"200 {OLD}", f"200 {NEW}"}, seen


def test_a_switch_is_in_force_at_once(host, get):
    live(host, NEW)
    assert get("/version").text == NEW
    live(host, OLD)
    assert get("/version").text == OLD


def test_a_request_that_runs_is_finished_by_the_release_that_began_it(host):
    done = host.run(
        "bash -c %s",
        f"curl -s http://127.0.0.1:8080/slow >/tmp/slow & sleep 0.5; cd /run/jukebox; "
        f"ln -sfn {NEW}.sock .next; mv -T .next current.sock; systemctl stop jukebox-web@{OLD}; "
        f"wait; cat /tmp/slow; systemctl start jukebox-web@{OLD}",
    )
    live(host, OLD)
    assert done.stdout == OLD


def test_reloads_fail_no_request(host):
    seen = client(host, "for i in 1 2 3 4 5; do systemctl reload nginx; sleep 0.2; done")
    assert set(seen) == {f"200 {OLD}"}, seen


def test_no_line_is_lost_when_logs_are_rotated(host):
    host.run("logrotate -f /etc/logrotate.d/nginx; sleep 0.5")
    before = int(host.run("zcat -f /var/log/nginx/access.log* | grep -c '/version'").stdout)
    seen = client(host, "for i in 1 2 3; do logrotate -f /etc/logrotate.d/nginx; sleep 0.3; done")
    time.sleep(0.5)
    after = int(host.run("zcat -f /var/log/nginx/access.log* | grep -c '/version'").stdout)
    assert set(seen) == {f"200 {OLD}"}, seen
    assert after - before == sum(seen.values())


def test_drained_is_404_and_back_is_200_at_once(host, get):
    assert get("/_health").status == 200
    host.run("mkdir -p /run/backline && touch /run/backline/drain")
    assert get("/_health").status == 404
    assert get("/version").status == 200, "a drained host still answers those it has"
    host.run("rm /run/backline/drain")
    assert get("/_health").status == 200


def test_without_an_application_it_is_ill(host, get):
    host.run("mv /run/jukebox/current.sock /run/jukebox/away")
    try:
        assert get("/_health").status in (502, 503)
        assert get("/version").status in (502, 503)
    finally:
        host.run("mv -T /run/jukebox/away /run/jukebox/current.sock")
    assert get("/_health").status == 200


def test_only_the_balancer_says_who_a_client_is(get, address):
    claim = [
        "-H",
        "X-Forwarded-For: 203.0.113.9",
        "-H",
        "X-Forwarded-Proto: https",
        "-H",
        "X-Request-ID: trace-12345678",
        "-H",
        "Host: music.example.com:8443",
    ]
    balancer = json.loads(get("/headers", *claim).text)
    assert balancer["X-Forwarded-For"] == balancer["X-Real-IP"] == "203.0.113.9"
    assert balancer["X-Forwarded-Proto"] == "https"
    assert balancer["X-Request-ID"] == "trace-12345678"
    assert balancer["Host"] == "music.example.com:8443"
    stranger = json.loads(get("/headers", *claim, to=f"{address}:8080").text)
    assert stranger["X-Forwarded-For"] == stranger["X-Real-IP"] == address
    assert stranger["X-Forwarded-Proto"] == "http"
    assert stranger["X-Request-ID"] != "trace-12345678"


def test_headers_that_the_application_left_out_are_filled_in(get):
    plain, framed = get("/version").headers, get("/framed").headers
    assert plain["x-frame-options"] == "DENY" and framed["x-frame-options"] == "SAMEORIGIN"
    assert plain["x-content-type-options"] == framed["x-content-type-options"] == "nosniff"
    assert len(plain["x-request-id"]) == 32


def test_the_log_is_json_without_query_strings(host, get):
    get("/version?token=canary-51")
    time.sleep(0.2)
    line = json.loads(host.run("tail -n 1 /var/log/nginx/access.log").stdout)
    assert (line["site"], line["path"], line["status"]) == ("streaming", "/version", "200")
    assert "canary-51" not in host.run("cat /var/log/nginx/access.log").stdout


def test_a_broken_file_is_refused_and_changes_nothing(host, get):
    host.run("echo 'server { listen 8080; nonsense on; }' >/tmp/broken.conf")
    check = host.run("/usr/local/lib/backline/nginx-check streaming.conf /tmp/broken.conf")
    assert check.rc != 0 and "nonsense" in check.stderr
    assert host.run("/usr/local/lib/backline/nginx-check").rc == 0
    host.run("cp /tmp/broken.conf /etc/nginx/backline.d/zz.conf")
    assert host.run("systemctl reload nginx").rc != 0
    host.run("rm /etc/nginx/backline.d/zz.conf")
    assert get("/version").status == 200
    assert host.run("systemctl reload nginx").rc == 0


def test_testing_the_configuration_as_root_leaves_the_cache_to_nginx(host):
    """An engineer's `nginx -t`: nginx would hand the folder to another user, and caching would end."""
    assert host.run("nginx -t").succeeded
    assert host.file("/var/cache/nginx/media").user == "www-data"
