"""What an SRE relies on after the edge role: certificates, pages, limits, and an address that moves."""

import json
import re
import shlex
import subprocess
import time

import pytest
import testinfra

PAIR = ("mol-edge1", "mol-edge2")
ALONE = "mol-edge3"
# One of each kind; what is between them names its hosts.
testinfra_hosts = ["podman://mol-edge2", "podman://mol-edge3"]
TOOL = "/usr/local/lib/backline/edge-certificate"


def known(name):
    return testinfra.get_host(f"podman://{name}")


def address(name):
    look = ["podman", "inspect", "-f", "{{.NetworkSettings.IPAddress}}", name]
    return subprocess.run(look, capture_output=True, text=True, check=True).stdout.strip()


def vip():
    network, _, number = address(PAIR[0]).rpartition(".")
    return f"{network}.{250 if int(number) < 200 else 100}"


def holder():
    """Which of the two has the shared address now."""
    return [name for name in PAIR if f" {vip()}/" in known(name).run("ip -4 -o addr").stdout]


def fetch(host, path, *more):
    words = " ".join(more)
    return host.run(f"curl -sk -i --max-time 5 {words} https://127.0.0.1{path}").stdout


def exposure(host, unit):
    said = host.run(f"systemd-analyze security --no-pager {unit}").stdout
    return float(re.search(r"Overall exposure level for \S+: ([\d.]+)", said)[1])


def test_haproxy_is_sandboxed(host):
    assert exposure(host, "haproxy.service") <= 2.5
    assert host.run("ps -o user= -C haproxy").stdout.split()[0] == "haproxy"
    assert host.file("/run/haproxy/admin.sock").mode == 0o600


def test_listeners_get_http2_and_hsts(host):
    answer = fetch(host, "/who", "--http2")
    assert answer.startswith("HTTP/2 200"), answer
    assert "strict-transport-security: max-age=63072000" in answer.lower()


def test_http_only_redirects(host):
    answer = host.run("curl -s -i http://127.0.0.1/a?b=c -H 'Host: edge.test'").stdout
    assert " 308 " in answer and "location: https://edge.test/a?b=c" in answer.lower()


def test_old_tls_gets_nothing(host):
    for version in ("tls1", "tls1_1"):
        cipher = "-cipher DEFAULT@SECLEVEL=0"
        said = host.run(f"openssl s_client -{version} {cipher} -connect 127.0.0.1:443 </dev/null")
        assert said.rc != 0, version


def test_what_a_listener_claims_about_the_way_is_not_believed(host):
    answer = fetch(
        host, "/headers", "-H 'X-Forwarded-For: 203.0.113.9'", "-H 'X-Forwarded-Host: evil'"
    )
    assert "203.0.113.9" not in answer and "evil" not in answer
    assert "'x-forwarded-for': '127.0.0.1'" in answer.lower()


def test_health_of_the_hosts_is_hidden(host):
    assert fetch(host, "/_health").startswith("HTTP/2 404")


def test_maintenance_is_switched_and_outlives_a_reload(host):
    assert host.run("edge-maintenance on").stdout.strip() == "on"
    try:
        assert fetch(host, "/who").startswith("HTTP/2 503")
        assert "retry-after: 120" in fetch(host, "/who").lower()
        assert host.run("systemctl reload haproxy").rc == 0
        time.sleep(1)
        assert fetch(host, "/who").startswith("HTTP/2 503")
        assert host.run("curl -s http://127.0.0.1:8080/_health").rc == 0
    finally:
        host.run("edge-maintenance off")
    assert fetch(host, "/who").startswith("HTTP/2 200")


def switch(host, **request):
    said = host.run(f"printf %s {shlex.quote(json.dumps(request))} | hostctl maintenance")
    assert said.rc == 0, said.stdout
    return json.loads(said.stdout)


def test_the_page_of_the_occasion_is_shown_until_it_is_over(host):
    page = '<!doctype html><title>100% \u266b</title><p>Back at "nine"; it\'s planned + nice.</p>'
    mode = host.file("/etc/haproxy/maintenance.map")
    before = (mode.user, mode.group, mode.mode)
    switch(host, action="on", page=page, until=1830297599, actor="ann@desk", message="disks")
    try:
        for command in ("true", "systemctl reload haproxy", "systemctl restart haproxy"):
            assert host.run(command).rc == 0
            time.sleep(1)
            answer = fetch(host, "/who")
            assert answer.startswith("HTTP/2 503") and answer.endswith(page)
            assert "retry-after: Fri, 31 Dec 2027 23:59:59 GMT" in answer
            assert "content-security-policy: default-src 'none'" in answer
        assert host.run("curl -s http://127.0.0.1:8080/_health").rc == 0
        assert fetch(host, "/_health").startswith("HTTP/2 404")
        shown = switch(host, action="show")
        assert (shown["on"], shown["page"], shown["kept"]["actor"]) == (True, page, "ann@desk")
        there = host.file("/etc/haproxy/maintenance.map")
        assert (there.user, there.group, there.mode) == before
    finally:
        switch(host, action="off")
    assert fetch(host, "/who").startswith("HTTP/2 200")


def test_a_page_of_an_earlier_occasion_is_not_shown_again(host):
    switch(host, action="on", page="<p>yesterday</p>")
    try:
        host.run("edge-maintenance off")
        host.run("edge-maintenance on")
        answer = fetch(host, "/who")
        assert answer.startswith("HTTP/2 503") and "yesterday" not in answer
    finally:
        host.run("edge-maintenance off")


def test_metrics_are_for_the_monitor_alone():
    url = f"http://{address(PAIR[0])}:8404/metrics"
    ask = "curl -s -o /dev/null -w '%{http_code}' " + url
    assert known(PAIR[1]).run(ask).stdout == "200"
    assert known(PAIR[0]).run(ask).stdout == "403"


def balance(host, **request):
    said = host.run(f"echo '{json.dumps(request)}' | hostctl balance")
    assert said.rc == 0, said.stdout
    return json.loads(said.stdout)


def who_answers(host):
    ask = "curl -sk --max-time 5 'https://127.0.0.1/who?[1-8]' -w '\\n'"
    return set(host.run(ask).stdout.split())


def until(what, seconds=20):
    began = time.monotonic()
    while not what():
        assert time.monotonic() - began < seconds, "that did not come"
        time.sleep(0.5)


def restarts(host):
    return host.run("systemctl show -p NRestarts --value haproxy").stdout.strip()


def test_who_is_kept_out_stays_out_whatever_happens_to_haproxy():
    """`one` and `two` are the pair; `in` after a start from the file must not harm HAProxy either."""
    host = known(ALONE)
    until(lambda: who_answers(host) == set(PAIR))
    answer = balance(host, action="out", server="one")
    assert (answer["already"], answer["backends"]) == (False, ["streaming"])
    try:
        assert who_answers(host) == {PAIR[1]}
        for disturb in ("reload", "restart", "reload", "kill -s KILL"):
            assert host.run(f"systemctl {disturb} haproxy").rc == 0
            until(lambda: who_answers(host))
            for _ in range(10):
                assert who_answers(host) == {PAIR[1]}, disturb
            assert balance(host, action="out", server="one")["already"], disturb
        assert balance(host, action="show")["servers"]["streaming"]["one"] == "maint"
        said = host.run("journalctl -u haproxy --no-pager -o cat").stdout
        assert "server state file" not in said, "missing, unreadable or not understood"
    finally:
        balance(host, action="in", server="one")
    until(lambda: who_answers(host) == set(PAIR))
    before = restarts(host)
    time.sleep(8)
    assert restarts(host) == before and who_answers(host) == set(PAIR)
    assert host.run("systemctl reload haproxy").rc == 0
    until(lambda: who_answers(host) == set(PAIR))
    assert balance(host, action="show")["out"] == []


# What `ca` writes may begin and end when we like; `req` and `x509` count from now.
MADE = """set -e; cd $(mktemp -d); touch index
printf '[ca]\\ndefault_ca=a\\n[a]\\ndatabase=index\\nnew_certs_dir=.\\nrand_serial=yes\\n' > ca
printf 'default_md=sha256\\npolicy=p\\n[p]\\ncommonName=supplied\\n' >> ca
openssl req -new -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -subj /CN=a -keyout key -out ask
openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:prime256v1 -out other
openssl ca -batch -notext -config ca -selfsign -keyfile key -in ask -startdate {} -enddate {} -out crt
cat {} > /tmp/made.pem"""
THEN, PAST, COMING = "20200101000000Z", "20210101000000Z", "21000101000000Z"


@pytest.mark.parametrize(
    ("begin", "end", "parts", "said"),
    [
        (THEN, COMING, "crt key", ""),
        (THEN, PAST, "crt key", "it has expired"),
        (COMING, "21100101000000Z", "crt key", "it is not valid yet"),
        (THEN, COMING, "crt other", "the key is another certificate's"),
        (THEN, COMING, "crt", "no private key in it"),
        (THEN, COMING, "key", "no certificate in it"),
        (THEN, COMING, "/dev/null", "no certificate in it"),
    ],
)
def test_only_a_good_certificate_passes(begin, end, parts, said):
    host = known(ALONE)
    made = host.run(MADE.format(begin, end, parts))
    assert made.rc == 0, made.stderr
    checked = host.run(f"{TOOL} check /tmp/made.pem")
    assert checked.stderr.strip() == (f"/tmp/made.pem: {said}" if said else "")
    assert checked.rc == bool(said)


@pytest.mark.parametrize("name", PAIR)
def test_listeners_who_trust_the_authority_trust_each_edge(name):
    """Pebble's root is all that curl trusts: chain, name, dates and key are right, on either edge."""
    host = known(ALONE)
    assert host.run("curl -skf -o /tmp/root.pem https://127.0.0.1:15000/roots/0").rc == 0
    to = f"--connect-to edge.test:443:{address(name)}:443"
    asked = host.run(f"curl -sS --cacert /tmp/root.pem {to} https://edge.test/who")
    assert asked.rc == 0 and asked.stdout in PAIR, asked.stderr


def test_certificates_are_renewed_by_a_timer():
    """The second edge's has been renewed once, as the timer does it; the first one's not yet."""
    for name in PAIR:
        timer = known(name).service("certbot.timer")
        assert timer.is_running and timer.is_enabled, name
    issued = [
        known(name).run("ls /etc/letsencrypt/archive/backline-edge").stdout.count("fullchain")
        for name in PAIR
    ]
    assert issued == [1, 2]
    assert not known(ALONE).package("certbot").is_installed


def test_another_certificate_of_certbot_is_not_taken_for_the_edges():
    host = known(PAIR[0])
    hook = "/etc/letsencrypt/renewal-hooks/deploy/backline-edge"
    picture = "sha256sum /etc/haproxy/certificates/acme.pem"
    before = host.run(picture).stdout
    own = "openssl req -x509 -newkey rsa:2048 -nodes -subj /CN=mail -days 9"
    made = host.run(
        f"mkdir -p /tmp/mail && cd /tmp/mail && {own} -keyout privkey.pem -out fullchain.pem"
    )
    assert made.rc == 0, made.stderr
    done = host.run(f"RENEWED_LINEAGE=/tmp/mail {hook}")
    assert done.rc == 0 and not done.stdout, done.stderr
    assert host.run(picture).stdout == before


def test_who_asks_too_often_is_told_to_wait_alone_and_not_for_long():
    eager, calm, exempt = known(PAIR[0]), known(PAIR[1]), known(ALONE)
    url = f"https://{address(ALONE)}/who"
    many = "curl -sk -o /dev/null -w '%{http_code}\n' "
    codes = eager.run(f"{many} '{url}?[1-65]'").stdout.split()
    assert codes[:50] == ["200"] * 50 and codes[-1] == "429", codes
    for version in ("--http1.1", "--http2"):
        answer = eager.run(f"curl -sk -i {version} {url}").stdout
        head, page = answer.replace("\r", "").split("\n\n", 1)
        assert " 429" in head.splitlines()[0] and "retry-after: 10" in head.lower()
        assert "strict-transport-security" in head.lower()
        assert "That was a little too fast." in page and page.rstrip().endswith("</html>")
    assert calm.run(f"{many} {url}").stdout.split() == ["200"]
    assert set(exempt.run(f"{many} 'https://127.0.0.1/who?[1-80]'").stdout.split()) == {"200"}
    began = time.monotonic()
    while eager.run(f"{many} {url}").stdout.split() != ["200"]:
        assert time.monotonic() - began < 30, "still refused"
        time.sleep(1)
    print(f"\nlet in again after {time.monotonic() - began:.1f} s")


def test_the_shared_address_moves_when_haproxy_stops_answering_and_stays():
    assert len(holder()) == 1, holder()
    first = holder()[0]
    second = next(name for name in PAIR if name != first)
    ill, peer = known(first), known(second)
    began = time.monotonic()
    assert ill.run("systemctl stop haproxy").rc == 0
    try:
        ask = f"curl -sk --max-time 0.3 https://{vip()}/who"
        while peer.run(ask).rc != 0:
            assert time.monotonic() - began < 10, "nobody took the address"
        print(f"\nmoved after {time.monotonic() - began:.1f} s")
    finally:
        ill.run("systemctl start haproxy")
    time.sleep(4)
    assert holder() == [second], "the address came back: a second interruption"
