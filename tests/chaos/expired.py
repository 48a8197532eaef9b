"""Certificates that have run out: the lab's own, signed anew with dates of the past, and back."""

from __future__ import annotations

import contextlib
import datetime
import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path

import yaml
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric.types import CertificateIssuerPrivateKeyTypes

from backline.lab import files
from backline.lab.machine import podman
from tests.data.cluster import inside
from tests.live import Fleet

PKI = "/etc/backline/pki"
KEPT = "/root/pki-kept"
SUPPLIED = "/etc/haproxy/certificates/supplied.pem"
READERS = "etcd patroni pgbouncer pgbackrest-server rabbitmq-server database-proxy"
"""Units that use a host's certificate."""
TOLD = (
    "for unit in {units}; do systemctl is-active --quiet $unit && systemctl {how} $unit; done; true"
)
RELOAD = TOLD.format(units=READERS, how="reload")
BACK = f"rm -rf {PKI}; cp -a {KEPT} {PKI}; " + TOLD.format(units=READERS, how="--no-block restart")
READ_S = 180.0
"""Until every daemon shows what it was given. RabbitMQ looks by itself every two minutes, and nothing can
have it look sooner: its own tool shows the certificate that has run out, and is not let in."""


def ended(
    old: x509.Certificate, key: CertificateIssuerPrivateKeyTypes, *, own: bool = False
) -> str:
    """The same certificate, PEM, signed by `key` as one that ran out yesterday. `own`: by itself."""
    now = datetime.datetime.now(datetime.UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(old.subject)
        .issuer_name(old.subject if own else old.issuer)
        .public_key(old.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=90))
        .not_valid_after(now - datetime.timedelta(days=1))
    )
    for extension in old.extensions:
        if not (own and isinstance(extension.value, x509.AuthorityKeyIdentifier)):
            builder = builder.add_extension(extension.value, extension.critical)
    made = builder.sign(key, hashes.SHA256())
    return made.public_bytes(serialization.Encoding.PEM).decode()


def secrets_file(fleet: Fleet) -> Path:
    return files.INVENTORY / fleet.env / "group_vars/all/secrets.yml"


def secrets(fleet: Fleet) -> dict[str, str]:
    known: dict[str, str] = yaml.safe_load(secrets_file(fleet).read_text(encoding="utf-8"))
    return known


def edge_pem(good: str) -> tuple[str, str]:
    """(chain and key as HAProxy takes it, the chain alone) of an edge's certificate that has run out."""
    old = x509.load_pem_x509_certificate(good.encode())
    private = good[good.index("-----BEGIN PRIVATE KEY") :]
    key = serialization.load_pem_private_key(private.encode(), None)
    chain = ended(old, key, own=True)  # type: ignore[arg-type]
    return chain + private, chain


def show_on_edges(fleet: Fleet, pem: str) -> None:
    """Puts a certificate on all edges, past the role that would refuse it."""
    for edge in fleet.hosts("edge"):
        script = f"install -m 0640 -g haproxy /dev/stdin {SUPPLIED} && systemctl reload haproxy"
        podman("exec", "-i", fleet.container(edge), "sh", "-ec", script, data=pem.encode())


class Authority:
    """The lab's internal CA, for whoever has its folder and the passphrase."""

    def __init__(self, fleet: Fleet) -> None:
        self.fleet, self.folder = fleet, fleet.folder / "pki"
        self.pem = self.folder / "ca.pem"
        password = secrets(fleet)["vault_pki_passphrase"].encode()
        key = serialization.load_pem_private_key((self.folder / "ca.key").read_bytes(), password)
        self.key: CertificateIssuerPrivateKeyTypes = key  # type: ignore[assignment]

    def end(self) -> str:
        """It has run out itself, here; what hosts are to trust now."""
        text = ended(x509.load_pem_x509_certificate(self.pem.read_bytes()), self.key)
        self.pem.write_text(text, encoding="utf-8")
        return text

    def end_host(self, host: str, trusts: str = "") -> None:
        """The host's certificate has run out, and its daemons have read it. `trusts`: another ca.pem."""
        old = x509.load_pem_x509_certificate(
            inside(self.fleet, host, "cat", f"{PKI}/host.pem").encode()
        )
        self._write(host, "host.pem", ended(old, self.key))
        if trusts:
            self._write(host, "ca.pem", trusts)
        inside(self.fleet, host, "sh", "-c", RELOAD, timeout=120)

    def _write(self, host: str, name: str, text: str) -> None:
        words = ("exec", "-i", self.fleet.container(host), "sh", "-ec", f"cat >{PKI}/{name}")
        podman(*words, data=text.encode())


@contextlib.contextmanager
def kept(fleet: Fleet, hosts: Iterable[str], spare: Path) -> Iterator[None]:
    """What the hosts and the CA's folder have comes back if the test fails, and daemons read it again."""
    names = list(hosts)
    folder = fleet.folder / "pki"
    shutil.copytree(folder, spare)
    for host in names:
        inside(fleet, host, "sh", "-ec", f"rm -rf {KEPT}; cp -a {PKI} {KEPT}")
    try:
        yield
    except BaseException:
        shutil.rmtree(folder)
        shutil.copytree(spare, folder)
        for host in names:
            inside(fleet, host, "sh", "-c", BACK)
        raise
    finally:
        for host in names:
            inside(fleet, host, "rm", "-rf", KEPT)


def refused(fleet: Fleet, asker: str, host: str, port: int, more: str) -> bool:
    """Whether a host's daemon shows another one a certificate that has run out."""
    where = f"{fleet.address(host)}:{port}"
    ask = f"openssl s_client -connect {where} -CAfile {PKI}/ca.pem {more} </dev/null 2>&1"
    return "certificate has expired" in inside(fleet, asker, "sh", "-c", f"{ask} || true")
