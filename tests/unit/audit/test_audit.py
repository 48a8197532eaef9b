"""A checker's bad news is never read as good news."""

from __future__ import annotations

from typing import Any

import pytest
import yaml
from pydantic import ValidationError

from backline import audit
from backline.audit import Finding, Thresholds
from backline.tasks.steps import ROOT

LIMITS = Thresholds.model_validate(
    {
        "lynis": {"index": 85},
        "ssh-audit": {"fail": 0, "warn": 0},
        "testssl": {"severity": "MEDIUM"},
        "gixy": {"severity": "MEDIUM"},
        "systemd": [
            {"units": "jukebox-*@*.service", "exposure": 1.5},
            {"units": "nginx.service", "exposure": 2.5},
        ],
        "waivers": [
            {"tool": "testssl", "finding": "cert_*", "reason": "the lab's CA is a local one"},
            {
                "tool": "gixy",
                "finding": "x",
                "hosts": "stream*",
                "reason": "because of the app, long",
            },
        ],
        "container": {"KRNL-5788": "no kernel"},
    }
)
# As recorded from lynis 3.0.8, shortened.
LYNIS = """report_version_major=1
warning[]=FIRE-4512|iptables module(s) loaded, but no rules active|-|-|
suggestion[]=KRNL-5788|Determine why /vmlinuz is missing|/vmlinuz|-|
suggestion[]=SSH-7408|Consider hardening SSH configuration|MaxSessions (set 10 to 2)|-|
hardening_index=61
"""
# As recorded from ssh-audit 3.9, shortened.
SSH: dict[str, Any] = {
    "cves": [],
    "enc": [{"algorithm": "aes128-ctr", "notes": {"info": ["available since OpenSSH 3.7"]}}],
    "kex": [
        {
            "algorithm": "ecdh-sha2-nistp256",
            "notes": {"fail": ["using elliptic curves that are suspected"], "info": []},
        }
    ],
    "key": [{"algorithm": "ssh-ed25519", "notes": {}}],
    "mac": [
        {"algorithm": "hmac-sha1", "notes": {"fail": ["broken"], "warn": ["no encrypt-then-mac"]}}
    ],
}
# As recorded from testssl.sh 3.0.8, shortened.
TESTSSL = [
    {"id": "SSLv2", "severity": "OK", "finding": "not offered"},
    {"id": "engine_problem", "severity": "WARN", "finding": "No engine"},
    {"id": "cipher_order", "severity": "HIGH", "finding": "NOT a cipher order configured"},
    {"id": "cert_revocation", "severity": "HIGH", "finding": "Neither CRL nor OCSP URI provided"},
    {"id": "DNS_CAArecord", "severity": "LOW", "finding": "--"},
    {"id": "HSTS_time", "severity": "INFO", "finding": "730 days"},
]
# As recorded from gixy-ng, shortened.
GIXY = [
    {
        "plugin": "host_spoofing",
        "severity": "MEDIUM",
        "file": "/etc/nginx/backline.d/streaming.conf",
        "line": 234,
        "reason": "",
        "summary": "The proxied Host header may be spoofed.",
    }
]


def test_a_waiver_for_one_finding_excuses_no_other_of_the_same_algorithm() -> None:
    waiver = {
        "tool": "ssh-audit",
        "finding": "hmac-sha1",
        "text": "mac: no *",
        "reason": "an old client that is replaced soon",
    }
    limits = LIMITS.model_copy(update={"waivers": [audit.Waiver.model_validate(waiver)]})
    verdict = audit.judge_ssh("stream1", SSH, limits)
    assert [finding.text for finding in verdict.waived] == ["mac: no encrypt-then-mac"]
    assert ("hmac-sha1", "fail") in {(finding.id, finding.severity) for finding in verdict.findings}


def test_lynis_index_and_what_would_raise_it_but_for_the_containers_part() -> None:
    verdict = audit.judge_lynis("stream1", LYNIS, LIMITS)
    assert (verdict.value, verdict.ok) == ("61", False)
    assert [finding.id for finding in verdict.findings] == ["FIRE-4512", "SSH-7408"]
    assert "MaxSessions" in verdict.findings[1].text


def test_a_report_that_lynis_did_not_finish_is_an_error_and_no_pass() -> None:
    with pytest.raises(ValueError, match="no hardening index"):
        audit.lynis("report_version_major=1\n")


def test_every_fail_and_every_warn_of_ssh_audit_counts() -> None:
    verdict = audit.judge_ssh("stream1", SSH, LIMITS)
    assert (verdict.value, verdict.ok) == ("2 fail, 1 warn", False)
    assert Finding("hmac-sha1", "warn", "mac: no encrypt-then-mac") in verdict.findings


def test_a_clean_sshd_passes() -> None:
    assert audit.judge_ssh("stream1", {"enc": SSH["enc"], "cves": []}, LIMITS).ok


def test_a_cve_is_a_failure() -> None:
    assert not audit.judge_ssh("stream1", {"cves": ["CVE-2024-6387"]}, LIMITS).ok


def test_testssl_findings_below_the_bar_pass_and_waived_ones_are_counted_apart() -> None:
    verdict = audit.judge_severity("edge1", "testssl", audit.testssl(TESTSSL), "MEDIUM", LIMITS)
    assert [finding.id for finding in verdict.findings] == ["cipher_order"]
    assert [finding.id for finding in verdict.waived] == ["cert_revocation"]
    assert not verdict.ok


def test_a_severity_that_nobody_knows_counts_as_the_worst() -> None:
    assert audit.at_least([Finding("new", "APOCALYPTIC", "")], "MEDIUM")


def test_a_waiver_holds_on_its_hosts_only() -> None:
    found = [Finding("x", "HIGH", "text")]
    assert audit.judge_severity("stream1", "gixy", found, "MEDIUM", LIMITS).ok
    assert not audit.judge_severity("media1", "gixy", found, "MEDIUM", LIMITS).ok


def test_gixy_names_the_file_and_the_line() -> None:
    (finding,) = audit.gixy(GIXY)
    assert finding.text.startswith("/etc/nginx/backline.d/streaming.conf:234: The proxied Host")


def test_the_worst_unit_of_a_pattern_decides() -> None:
    rows = [
        {"unit": "jukebox-web@1.service", "exposure": "1.4"},
        {"unit": "jukebox-worker-plays@1.service", "exposure": "1.6"},
        {"unit": "nginx.service", "exposure": "1.2"},
        {"unit": "dbus.service", "exposure": "9.6"},
    ]
    (app, judged), (nginx, good) = audit.judge_units("stream1", rows, LIMITS)
    assert (app, judged.ok, judged.findings[0].id) == (
        "jukebox-*@*.service",
        False,
        "jukebox-worker-plays@1.service",
    )
    assert (nginx, good.ok) == ("nginx.service", True)


def test_a_limit_that_fitted_no_unit_is_told() -> None:
    assert audit.unmeasured(LIMITS, ["nginx.service"]) == ["jukebox-*@*.service"]


def test_a_waiver_needs_a_reason() -> None:
    with pytest.raises(ValidationError):
        audit.Waiver(tool="gixy", finding="x", reason="")


def test_the_thresholds_are_the_ones_that_were_promised() -> None:
    text = (ROOT / "tests/audit/thresholds.yml").read_text(encoding="utf-8")
    limits = Thresholds.model_validate(yaml.safe_load(text))
    assert limits.lynis.index == 85
    assert (limits.ssh_audit.fail, limits.ssh_audit.warn) == (0, 0)
    assert (limits.testssl.severity, limits.gixy.severity) == ("MEDIUM", "MEDIUM")
    units = {limit.units: limit.exposure for limit in limits.systemd}
    assert units["jukebox-*@*.service"] <= 1.5
    assert units["nginx.service"] <= 2.5 and units["haproxy.service"] <= 2.5
    assert units["prometheus-*exporter*.service"] <= 1.5
