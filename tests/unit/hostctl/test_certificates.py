"""When certificates end, read without a program: what openssl says of the same files."""

from __future__ import annotations

import os
import subprocess
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from backline.hostctl import certificates
from backline.hostctl.host import Host

from .fake_host import Lab

PKI = "etc/backline/pki"


def make(folder: Path, name: str, *more: str, days: int = 30, subject: str = "") -> Path:
    """A self-signed certificate, as name.pem."""
    folder.mkdir(parents=True, exist_ok=True)
    key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    subprocess.run(
        ["openssl", "req", "-x509", *key, "-keyout", f"{name}.key", "-out", f"{name}.pem",
         "-days", str(days), "-subj", subject or f"/O=Music/CN={name}", *more],
        cwd=folder, check=True, capture_output=True,
    )  # fmt: skip
    return folder / f"{name}.pem"


def end_of(path: Path) -> float:
    """The end that openssl reads."""
    argv = ["openssl", "x509", "-in", str(path), "-noout", "-enddate", "-dateopt", "iso_8601"]
    done = subprocess.run(argv, check=True, capture_output=True, text=True)
    text = done.stdout.strip().removeprefix("notAfter=").replace("Z", "+00:00")
    return datetime.fromisoformat(text).astimezone(UTC).timestamp()


def told(root: Path) -> list[dict[str, Any]]:
    return certificates.known(Host(root))


@pytest.mark.parametrize(
    "days", [1, 30, 20_000, 40_000]
)  # beyond 2049 the time is written otherwise
def test_the_end_is_the_one_that_openssl_reads(tmp_path: Path, days: int) -> None:
    path = make(tmp_path / PKI, "host", days=days)
    (entry,) = told(tmp_path)
    assert (entry["name"], entry["path"]) == ("host", f"/{PKI}/host.pem")
    assert entry["not_after"] == end_of(path)
    assert entry["subject"] == entry["issuer"] == "host"
    argv = ["openssl", "x509", "-in", str(path), "-noout", "-fingerprint", "-sha256"]
    said = subprocess.run(argv, check=True, capture_output=True, text=True).stdout
    assert entry["sha256"] == said.partition("=")[2].strip().replace(":", "").lower()


def test_a_subject_without_a_common_name_has_some_name(tmp_path: Path) -> None:
    make(tmp_path / PKI, "host", subject="/O=Music Inc")
    assert told(tmp_path)[0]["subject"] == "Music Inc"


def test_an_rsa_certificate_with_long_fields(tmp_path: Path) -> None:
    names = ",".join(f"DNS:host{number}.example.com" for number in range(200))
    path = make(tmp_path / PKI, "host", "-addext", f"subjectAltName={names}")
    assert told(tmp_path)[0]["not_after"] == end_of(path)


def test_each_authority_of_a_bundle_counts_and_of_a_chain_the_first(tmp_path: Path) -> None:
    folder = tmp_path / PKI
    one, two = make(folder, "one", days=10), make(folder, "two", days=20)
    (folder / "ca.pem").write_bytes(one.read_bytes() + two.read_bytes())
    (folder / "host.pem").write_bytes(two.read_bytes() + one.read_bytes())
    found = [(entry["name"], entry["subject"]) for entry in told(tmp_path)]
    assert found == [("host", "two"), ("ca", "one"), ("ca", "two")]


def test_an_edge_shows_the_certificate_that_its_configuration_names(tmp_path: Path) -> None:
    folder = tmp_path / "etc/haproxy/certificates"
    for name in ("supplied", "self-signed"):
        path = make(folder, name)
        path.write_bytes(path.read_bytes() + (folder / f"{name}.key").read_bytes())
    assert len(told(tmp_path)) == 2  # nobody says which
    configuration = "bind :443 ssl crt /etc/haproxy/certificates/supplied.pem alpn h2\n"
    (tmp_path / "etc/haproxy/haproxy.cfg").write_text(configuration)
    assert [(e["name"], e["subject"]) for e in told(tmp_path)] == [("edge", "supplied")]


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"nonsense",
        b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
        b"-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n",
        b"-----BEGIN CERTIFICATE-----\nMAA=\n-----END CERTIFICATE-----\n",
        b"-----BEGIN CERTIFICATE-----\nMIIBAAA=\n-----END CERTIFICATE-----\n",
    ],
)
def test_what_is_no_certificate_is_a_trouble_and_never_an_error(
    tmp_path: Path, content: bytes
) -> None:
    (tmp_path / PKI).mkdir(parents=True)
    (tmp_path / PKI / "host.pem").write_bytes(content)
    (entry,) = told(tmp_path)
    assert entry["trouble"] and "not_after" not in entry


def test_every_cut_of_a_certificate_is_survived(tmp_path: Path) -> None:
    import base64

    path = make(tmp_path / PKI, "host")
    der = base64.b64decode(certificates.PEM.findall(path.read_bytes())[0])
    assert certificates.parse(der).not_after == end_of(path)
    for size in range(0, len(der), 7):
        with pytest.raises((ValueError, IndexError)):
            certificates.parse(der[:size])


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_that_may_not_be_read_is_named(tmp_path: Path) -> None:
    make(tmp_path / PKI, "host").chmod(0)
    assert "cannot be read" in told(tmp_path)[0]["trouble"]


def test_the_verb_answers_without_app_and_lease(lab: Lab) -> None:
    make(lab.path(PKI), "host")
    answer = lab.ok("certificates", app=..., run=..., token=...)
    assert answer["certificates"][0]["subject"] == "host"
    assert answer["time"] == lab.clock.wall
