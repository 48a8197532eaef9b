"""What an SRE relies on after the pki role, and after a CA was replaced under load."""

from __future__ import annotations

import json
import re
import time

import testinfra

HOSTS = ("mol-pki1", "mol-pki2")
FOLDER = "/etc/backline/pki"


def known(name):
    return testinfra.get_host(f"podman://{name}")


def told(host, *words):
    done = host.run(f"openssl x509 -noout -in {' '.join(words)}")
    assert done.rc == 0, done.stderr
    return done.stdout


def test_the_certificate_is_the_host_s_own_and_good(host):
    name = host.run("hostname").stdout.strip()
    (address,) = host.run("hostname -I").stdout.split()[:1]
    assert host.run(f"openssl verify -CAfile {FOLDER}/ca.pem {FOLDER}/host.pem").rc == 0
    text = told(host, f"{FOLDER}/host.pem -subject -ext subjectAltName,extendedKeyUsage")
    assert f"CN = {name}" in text and "O = Backline" in text
    for wanted in (f"DNS:{name}", "DNS:localhost", "DNS:service", f"IP Address:{address}"):
        assert wanted in text
    assert "IP Address:127.0.0.1" in text
    assert "TLS Web Server Authentication, TLS Web Client Authentication" in text
    ends = told(host, f"{FOLDER}/host.pem -checkend {89 * 86400} || true")
    assert "will not expire" in ends


def test_the_key_is_for_the_group_alone_and_the_rest_for_everybody(host):
    key = host.file(f"{FOLDER}/host.key")
    assert (key.user, key.group, key.mode) == ("root", "pki", 0o640)
    for name in ("ca.pem", "host.pem"):
        assert host.file(f"{FOLDER}/{name}").mode == 0o644
    assert host.run(f"su -s /bin/sh nobody -c 'cat {FOLDER}/host.key'").rc != 0
    assert not host.file(f"{FOLDER}/next.key").exists


def test_files_are_as_old_as_they_have_been_in_their_places(host):
    """Daemons take up what is newer than their start, or their last look at it."""
    for name in ("ca.pem", "host.pem", "host.key"):
        written, placed = host.check_output(f"stat -c '%.Y %.Z' {FOLDER}/{name}").split()
        assert float(placed) - float(written) < 0.1, name


def test_no_host_has_the_key_of_the_ca(host):
    held = host.run(
        "grep -rlE 'BEGIN [A-Z ]*PRIVATE KEY' /etc /root /home /tmp /var /opt /srv /run"
    )
    keys = [path for path in held.stdout.split() if "/ssh/" not in path]
    assert keys == [f"{FOLDER}/host.key"]


def test_the_hosts_have_keys_of_their_own():
    keys = {known(name).run(f"openssl pkey -in {FOLDER}/host.key -pubout").stdout for name in HOSTS}
    assert len(keys) == 2


def test_only_the_new_ca_is_trusted(host):
    bundle = host.file(f"{FOLDER}/ca.pem").content_string
    assert bundle.count("BEGIN CERTIFICATE") == 1
    assert bundle != host.file("/run/standin/first-ca.pem").content_string
    first, second = (
        told(host, f"{p} -subject") for p in ("/run/standin/first-ca.pem", f"{FOLDER}/ca.pem")
    )
    assert first != second, "two CAs of one name"


def test_nobody_heard_of_the_rotation(host):
    tally = json.loads(host.file("/run/standin/tally.json").content_string)
    print(f"\n{tally['requests']} requests, {tally['first']} tried again, {tally['second']} lost")
    assert tally["requests"] > 500
    assert tally["second"] == 0, tally["lost"]
    refused = [fault for fault in tally["faults"] if "CERTIFICATE_VERIFY_FAILED" in fault]
    assert not refused, refused


def starts(name, unit):
    """When it started, by systemd's own message of it, in seconds since the epoch."""
    started = "MESSAGE_ID=39f53479d3a045ac8e11786248231fbf"
    words = f"journalctl -u {unit} {started} -o short-unix --no-pager --quiet"
    return [float(line.split()[0]) for line in known(name).run(words).stdout.splitlines()]


def test_who_can_reload_was_never_restarted_and_the_other_as_often_as_it_had_to():
    began = {name: starts(name, "stubborn") for name in HOSTS}
    for name in HOSTS:
        assert len(starts(name, "gentle")) == 1
        # At first, to trust the new CA too, to trust it alone.
        assert len(began[name]) == 3, began
    # One host after the other: one of the two had been up again before the other one went.
    for turn in (1, 2):
        assert abs(began[HOSTS[0]][turn] - began[HOSTS[1]][turn]) > 0.5


def test_a_client_without_a_certificate_is_refused(host):
    alone = f"curl -sS --cacert {FOLDER}/ca.pem https://localhost:8443/"
    assert host.run(alone).rc != 0
    ours = f"--cert {FOLDER}/host.pem --key {FOLDER}/host.key"
    assert "hello" in host.run(f"{alone} {ours} --http0.9").stdout


def test_the_monitor_hears_when_certificates_end(host):
    timer = host.service("backline-certificates.timer")
    assert timer.is_running and timer.is_enabled
    text = host.file("/var/lib/prometheus/node-exporter/backline_certificates.prom").content_string
    found = dict(
        re.findall(r'^backline_certificate_not_after_seconds\{name="(\w+)".*\} (\d+)$', text, re.M)
    )
    assert 89 < (int(found["host"]) - time.time()) / 86400 < 90.1
    assert 3640 < (int(found["ca"]) - time.time()) / 86400 < 3651
    said = host.run("systemd-analyze security --no-pager backline-certificates.service | tail -1")
    exposure = float(said.stdout.split("exposure level for", 1)[1].split(":", 1)[1].split()[0])
    assert exposure <= 1.5, said.stdout
