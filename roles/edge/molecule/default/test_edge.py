"""What an SRE relies on after the edge role: TLS, pages, limits, sandbox, and an address that moves."""

import re
import subprocess
import time

import pytest
import testinfra

PAIR = ("mol-edge1", "mol-edge2")


def address(name):
    look = ["podman", "inspect", "-f", "{{.NetworkSettings.IPAddress}}", name]
    return subprocess.run(look, capture_output=True, text=True, check=True).stdout.strip()


def vip():
    return re.sub(r"\d+$", "250", address(PAIR[0]))


def holder():
    """Which of the two has the shared address now."""
    hosts = {name: testinfra.get_host(f"podman://{name}") for name in PAIR}
    return [name for name in PAIR if f" {vip()}/" in hosts[name].run("ip -4 -o addr").stdout]


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


def test_metrics_are_for_the_monitor_alone():
    hosts = {name: testinfra.get_host(f"podman://{name}") for name in PAIR}
    url = f"http://{address(PAIR[0])}:8404/metrics"
    ask = "curl -s -o /dev/null -w '%{http_code}' " + url
    assert hosts[PAIR[1]].run(ask).stdout == "200"
    assert hosts[PAIR[0]].run(ask).stdout == "403"


@pytest.mark.parametrize("content", ["", "nonsense", "expired", "other"])
def test_a_bad_certificate_is_refused(host, content):
    make = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -subj /CN=a"
    days = "-days -1" if content == "expired" else "-days 9"
    host.run(f"cd /tmp && {make} {days} -keyout k.pem -out c.pem && cat c.pem k.pem > bad.pem")
    if content == "other":
        host.run(f"cd /tmp && {make} -days 9 -keyout k.pem -out x.pem && cat c.pem k.pem > bad.pem")
    elif content != "expired":
        host.run(f"printf '%s' '{content}' > /tmp/bad.pem")
    tool = "/usr/local/lib/backline/edge-certificate"
    refused = host.run(f"{tool} check /tmp/bad.pem")
    assert refused.rc == 1 and "bad.pem: " in refused.stderr


def test_the_shared_address_moves_when_haproxy_stops_answering_and_stays():
    assert len(holder()) == 1, holder()
    first = holder()[0]
    second = next(name for name in PAIR if name != first)
    ill, peer = (testinfra.get_host(f"podman://{name}") for name in (first, second))
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
