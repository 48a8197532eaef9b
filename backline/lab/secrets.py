"""Generates a lab's secrets: passwords, SSH keys, host keys and the edge's certificate.

They are made once per lab, kept in .lab/<env>/ and inventory/<env>/ with mode 0600, never committed.
"""

from __future__ import annotations

import datetime
import ipaddress
import os
import secrets
from pathlib import Path

import yaml
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from backline.provision.skeleton import PASSWORDS

# What the application signs in with: playbooks/rotate_secrets.yml brings new values into use.
ROTATED = (
    "vault_jukebox_database_password",
    "vault_jukebox_secret_key",
    "vault_jukebox_broker_password",
)
LIFETIME = datetime.timedelta(days=397)


def write_private(path: Path, text: str) -> None:
    """Writes a file that only its owner may read, replacing it in one step."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    partial.replace(path)


def ssh_key(path: Path, comment: str) -> str:
    """Makes an Ed25519 key pair at `path` (and `path`.pub) unless it is there; returns the public line."""
    public = path.with_name(path.name + ".pub")
    if not path.exists():
        key = ed25519.Ed25519PrivateKey.generate()
        line = key.public_key().public_bytes(
            serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH
        )
        public.parent.mkdir(parents=True, exist_ok=True)
        public.write_text(f"{line.decode()} {comment}\n", encoding="utf-8")
        write_private(
            path,
            key.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.OpenSSH,
                serialization.NoEncryption(),
            ).decode(),
        )
    return public.read_text(encoding="utf-8").strip()


def ensure_secrets(path: Path, ca_path: Path, names: list[str], addresses: list[str]) -> None:
    """Writes the lab's secret variables to `path` and its CA certificate to `ca_path`, once.

    `names` and `addresses` are what the edge's certificate answers for. Later calls add variables
    that are missing and change none.
    """
    known: dict[str, str] = {}
    if path.exists():
        known = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
    wanted = dict(known)
    for name in PASSWORDS:
        wanted.setdefault(name, secrets.token_urlsafe(32))
    if "vault_edge_certificate" not in wanted or not ca_path.exists():
        wanted["vault_edge_certificate"], authority = edge_certificate(names, addresses)
        ca_path.parent.mkdir(parents=True, exist_ok=True)
        ca_path.write_text(authority, encoding="utf-8")
    if wanted != known:
        text = "---\n# Made by `inv lab.up` for this lab alone. Never commit it.\n"
        write_private(path, text + yaml.safe_dump(wanted, default_style="|"))


def renew_secrets(path: Path) -> None:
    """Puts new values of the application's secrets into the lab's variables at `path`."""
    known = yaml.safe_load(path.read_text(encoding="utf-8"))
    renewed = {**known, **{name: secrets.token_urlsafe(32) for name in ROTATED}}
    text = "---\n# Made by `inv lab.renew-secrets` for this lab alone. Never commit it.\n"
    write_private(path, text + yaml.safe_dump(renewed, default_style="|"))


def edge_certificate(names: list[str], addresses: list[str]) -> tuple[str, str]:
    """A certificate for the edge: (PEM of chain and key as HAProxy takes it, PEM of its CA).

    The CA's key is thrown away: it signs this one certificate.
    """
    ca_key = ec.generate_private_key(ec.SECP256R1())
    ca_name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Backline lab CA")])
    ca = (
        _builder(ca_name, ca_name, ca_key.public_key())
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(key_cert_sign=True, crl_sign=True), critical=True)
        .sign(ca_key, hashes.SHA256())
    )
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, names[0])])
    alternatives: list[x509.GeneralName] = [x509.DNSName(name) for name in names]
    alternatives += [x509.IPAddress(ipaddress.ip_address(address)) for address in addresses]
    leaf = (
        _builder(subject, ca_name, key.public_key())
        .add_extension(x509.SubjectAlternativeName(alternatives), critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(digital_signature=True), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(ca_key.public_key()), critical=False
        )
        .sign(ca_key, hashes.SHA256())
    )
    private = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    chain = leaf.public_bytes(serialization.Encoding.PEM).decode()
    return chain + private.decode(), ca.public_bytes(serialization.Encoding.PEM).decode()


def _builder(
    subject: x509.Name, issuer: x509.Name, public: ec.EllipticCurvePublicKey
) -> x509.CertificateBuilder:
    now = datetime.datetime.now(datetime.UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(public)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(minutes=5))
        .not_valid_after(now + LIFETIME)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
    )


def _usage(
    digital_signature: bool = False, key_cert_sign: bool = False, crl_sign: bool = False
) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=digital_signature,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=key_cert_sign,
        crl_sign=crl_sign,
        encipher_only=False,
        decipher_only=False,
    )
