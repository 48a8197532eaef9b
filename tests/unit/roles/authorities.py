"""CAs, keys, requests and certificates for tests, made in an instant."""

from __future__ import annotations

import datetime
import ipaddress
from dataclasses import dataclass

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID, ObjectIdentifier

PASSPHRASE = b"correct horse battery staple"
NOW = datetime.datetime.now(datetime.UTC)
USAGE = [
    "digital_signature",
    "content_commitment",
    "key_encipherment",
    "data_encipherment",
    "key_agreement",
    "key_cert_sign",
    "crl_sign",
    "encipher_only",
    "decipher_only",
]
Key = ec.EllipticCurvePrivateKey


def key() -> Key:
    return ec.generate_private_key(ec.SECP256R1())


def usage(*wanted: str) -> x509.KeyUsage:
    return x509.KeyUsage(**{name: name in wanted for name in USAGE})


def subject(host: str) -> x509.Name:
    return x509.Name(
        [
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, "Backline"),
            x509.NameAttribute(NameOID.COMMON_NAME, host),
        ]
    )


def alternatives(names: tuple[str, ...]) -> x509.SubjectAlternativeName:
    found: list[x509.GeneralName] = []
    for name in names:
        kind, _, value = name.partition(":")
        found.append(
            x509.IPAddress(ipaddress.ip_address(value)) if kind == "IP" else x509.DNSName(value)
        )
    return x509.SubjectAlternativeName(found)


@dataclass
class Authority:
    """A CA: `begins` and `ends` in days from now."""

    name: str = "first"
    begins: float = -1
    ends: float = 3650

    def __post_init__(self) -> None:
        self.key = key()
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, self.name)])
        self.certificate = (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(name)
            .public_key(self.key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(NOW + datetime.timedelta(days=self.begins))
            .not_valid_after(NOW + datetime.timedelta(days=self.ends))
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .sign(self.key, hashes.SHA256())
        )

    @property
    def pem(self) -> str:
        return self.certificate.public_bytes(serialization.Encoding.PEM).decode()

    def private(self, passphrase: bytes = PASSPHRASE) -> bytes:
        encryption: serialization.KeySerializationEncryption = serialization.NoEncryption()
        if passphrase:
            encryption = serialization.BestAvailableEncryption(passphrase)
        return self.key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, encryption
        )

    def leaf(
        self, own: Key, host: str, names: tuple[str, ...], ends: float = 90, begins: float = -1
    ) -> str:
        certificate = (
            x509.CertificateBuilder()
            .subject_name(subject(host))
            .issuer_name(self.certificate.subject)
            .public_key(own.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(NOW + datetime.timedelta(days=begins))
            .not_valid_after(NOW + datetime.timedelta(days=ends))
            .add_extension(alternatives(names), critical=False)
            .sign(self.key, hashes.SHA256())
        )
        return certificate.public_bytes(serialization.Encoding.PEM).decode()


def request(
    own: Key,
    host: str,
    names: tuple[str, ...],
    ca: bool = False,
    purposes: tuple[ObjectIdentifier, ...] = (
        ExtendedKeyUsageOID.SERVER_AUTH,
        ExtendedKeyUsageOID.CLIENT_AUTH,
    ),
    uses: tuple[str, ...] = ("digital_signature",),
    more: x509.ExtensionType | None = None,
) -> str:
    builder = (
        x509.CertificateSigningRequestBuilder()
        .subject_name(subject(host))
        .add_extension(alternatives(names), critical=False)
        .add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
        .add_extension(usage(*uses), critical=True)
        .add_extension(x509.ExtendedKeyUsage(purposes), critical=False)
    )
    if more:
        builder = builder.add_extension(more, critical=False)
    return builder.sign(own, hashes.SHA256()).public_bytes(serialization.Encoding.PEM).decode()
