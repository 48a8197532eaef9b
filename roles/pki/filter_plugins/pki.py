"""What is decided about certificates: who needs a new one and why, and what may be signed."""

from __future__ import annotations

import base64
import contextlib
import datetime
import ipaddress
import re
from typing import Any

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import serialization
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

CERTIFICATE = re.compile(r"-----BEGIN CERTIFICATE-----.+?-----END CERTIFICATE-----", re.S)
PURPOSES = {ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH}
ASKED_FOR = (
    x509.SubjectAlternativeName,
    x509.BasicConstraints,
    x509.KeyUsage,
    x509.ExtendedKeyUsage,
    x509.SubjectKeyIdentifier,
)
DAY = 86400


def leaf_faults(
    pem: str, request: str, ca: str, renew_days: int, now: float | None = None
) -> list[str]:
    """Why a host needs another certificate than `pem`; empty when it does not.

    `request` is what the host asks for now, `ca` the certificate that signs. A certificate that ends
    with its CA is not renewed for ending soon: another one would end at the same moment.
    """
    now = _now() if now is None else now
    try:
        leaf = x509.load_pem_x509_certificate(pem.encode())
    except ValueError:
        return ["it has none"]
    wanted = x509.load_pem_x509_csr(request.encode())
    authority = x509.load_pem_x509_certificate(ca.encode())
    reasons = []
    if not _signed_by(leaf, authority):
        reasons.append("another CA signed it")
    if _key(leaf) != _key(wanted):
        reasons.append("it belongs to another key")
    if leaf.subject != wanted.subject or _names(leaf) != _names(wanted):
        reasons.append("it has other names")
    left = leaf.not_valid_after_utc.timestamp() - now
    ends_with_ca = leaf.not_valid_after_utc >= authority.not_valid_after_utc
    if left < renew_days * DAY and (left <= 0 or not ends_with_ca):
        reasons.append(f"it ends in {int(left // DAY)} days" if left > 0 else "it has expired")
    return reasons


def request_faults(request: str, host: str, names: list[str]) -> list[str]:
    """What a host asks for and must not get; empty when the CA may sign it as it is.

    A signed request is copied whole: one with another host's name would be that host, one that says
    CA:TRUE would be a CA.
    """
    csr = x509.load_pem_x509_csr(request.encode())
    faults = []
    if not csr.is_signature_valid:
        faults.append("it is not signed with its own key")
    subject = [(part.oid, part.value) for part in csr.subject]
    if subject != [(NameOID.ORGANIZATION_NAME, "Backline"), (NameOID.COMMON_NAME, host)]:
        faults.append(f"it is about {csr.subject.rfc4514_string()}")
    more = sorted(_names(csr) - {_name(name) for name in names})
    if more:
        faults.append(f"it asks for the names {', '.join(more)}")
    for extension in csr.extensions:
        value = extension.value
        if not isinstance(value, ASKED_FOR):
            faults.append(f"it asks for the extension {extension.oid.dotted_string}")
        elif isinstance(value, x509.BasicConstraints) and value.ca:
            faults.append("it asks to be a CA")
        elif isinstance(value, x509.KeyUsage) and (value.key_cert_sign or value.crl_sign):
            faults.append("it asks to sign others")
        elif isinstance(value, x509.ExtendedKeyUsage) and set(value) - PURPOSES:
            faults.append("it asks for other purposes than TLS")
    return faults


def unknown(bundle: str, known: str) -> list[str]:
    """What the CAs of `bundle` that are not in `known` call themselves."""
    ours = _certificates(known)
    return [ca.subject.rfc4514_string() for ca in _certificates(bundle) if ca not in ours]


def strangers(hostvars: Any, hosts: list[str], known: str) -> list[str]:
    """Those of `hosts` who trust a CA that is not in `known`; by what check.yml has read of them."""
    found = []
    for host in hosts:
        results = hostvars[host].get("__pki_present", {}).get("results", [{}])
        theirs = base64.b64decode(results[0].get("content", "")).decode("utf-8", "replace")
        if unknown(theirs, known):
            found.append(host)
    return found


def leaf_end(days: int, ca_end: float, now: float | None = None) -> str:
    """When a leaf of so many days ends, as the modules want it: never after its CA."""
    now = _now() if now is None else now
    end = min(now + days * DAY, ca_end)
    return datetime.datetime.fromtimestamp(end, datetime.UTC).strftime("%Y%m%d%H%M%SZ")


def _now() -> float:
    return datetime.datetime.now(datetime.UTC).timestamp()


def _signed_by(leaf: x509.Certificate, authority: x509.Certificate) -> bool:
    try:
        leaf.verify_directly_issued_by(authority)
    except (ValueError, TypeError, InvalidSignature):
        return False
    return True


def _key(subject: x509.Certificate | x509.CertificateSigningRequest) -> bytes:
    return subject.public_key().public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )


def _names(subject: x509.Certificate | x509.CertificateSigningRequest) -> set[str]:
    try:
        found = subject.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return set()
    return {
        f"{'IP' if isinstance(name, x509.IPAddress) else 'DNS'}:{name.value}"
        if isinstance(name, x509.IPAddress | x509.DNSName)
        else repr(name)
        for name in found
    }


def _name(text: str) -> str:
    """`DNS:a` or `IP:1.2.3.4`, the address as it is compared."""
    kind, _, value = text.partition(":")
    return f"IP:{ipaddress.ip_address(value)}" if kind == "IP" else text


def _certificates(bundle: str) -> list[x509.Certificate]:
    """What can be read of a bundle."""
    found = []
    for pem in CERTIFICATE.findall(bundle):
        with contextlib.suppress(ValueError):
            found.append(x509.load_pem_x509_certificate(pem.encode()))
    return found


class FilterModule:
    """What Ansible looks for."""

    def filters(self) -> dict[str, Any]:
        return {
            "pki_leaf_end": leaf_end,
            "pki_leaf_faults": leaf_faults,
            "pki_request_faults": request_faults,
            "pki_strangers": strangers,
            "pki_unknown": unknown,
        }
