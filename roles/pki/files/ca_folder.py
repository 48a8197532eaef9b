#!/usr/bin/env python3
"""The folder of an environment's CA, on the controller: `ca_folder.py look|promote|finish|retire FOLDER`.

ca.pem and ca.key are the CA that signs; next.pem and next.key one that is trusted already and signs
soon; previous.pem one that is still trusted and signs no more. All that is here is trusted.

look:    says what is there and what is wrong with it.
promote: next becomes ca, ca becomes previous. The old key is gone with that.
finish:  ends a promotion that was cut off; does nothing otherwise.
retire:  forgets previous.
The keys' passphrase comes from standard input; each prints one JSON object. A step is one rename:
what is killed in between can be finished.
"""

from __future__ import annotations

import argparse
import datetime
import hashlib
import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import serialization

NAMES = ("ca", "next", "previous")
KEPT = "docs/how-to/internal-ca.md says where it is kept"


@dataclass(frozen=True)
class Authority:
    """One CA certificate of the folder."""

    name: str
    certificate: x509.Certificate

    @property
    def pem(self) -> str:
        return self.certificate.public_bytes(serialization.Encoding.PEM).decode()

    @property
    def fingerprint(self) -> str:
        der = self.certificate.public_bytes(serialization.Encoding.DER)
        return hashlib.sha256(der).hexdigest()

    @property
    def ends(self) -> float:
        return self.certificate.not_valid_after_utc.timestamp()

    @property
    def order(self) -> tuple[float, str]:
        """Does not change when a CA gets another name: hosts' bundles stay as they are."""
        return self.certificate.not_valid_before_utc.timestamp(), self.fingerprint

    def says(self, now: float) -> dict[str, Any]:
        return {
            "subject": self.certificate.subject.rfc4514_string(),
            "fingerprint": self.fingerprint,
            "not_after": self.ends,
            "days": int((self.ends - now) // 86400),
        }


class Folder:
    """What is in the folder; nothing is read twice."""

    def __init__(self, path: Path, passphrase: bytes = b"") -> None:
        self.path = path
        self.passphrase = passphrase
        self.unreadable: list[str] = []
        self.authorities = {name: found for name in NAMES if (found := self._read(name))}

    def _read(self, name: str) -> Authority | None:
        file = self.path / f"{name}.pem"
        if not file.exists():
            return None
        try:
            return Authority(name, x509.load_pem_x509_certificate(file.read_bytes()))
        except (OSError, ValueError):
            self.unreadable.append(str(file))
            return None

    def key(self, name: str) -> Path:
        return self.path / f"{name}.key"

    def public(self, name: str) -> tuple[bytes, str]:
        """The public half of NAME.key, or why it cannot be had: none, passphrase, clear, unreadable."""
        try:
            data = self.key(name).read_bytes()
        except FileNotFoundError:
            return b"", "none"
        except OSError:
            return b"", "unreadable"
        if b"ENCRYPTED" not in data:
            return b"", "clear" if b"PRIVATE KEY" in data else "unreadable"
        try:
            key = serialization.load_pem_private_key(data, self.passphrase)
        except (ValueError, TypeError):
            return b"", "passphrase"
        return _der(key.public_key()), ""

    def belongs(self, key: str, name: str) -> bool:
        """Whether KEY.key opens and is the key of NAME.pem."""
        if name not in self.authorities:
            return False
        return self.public(key)[0] == _der(self.authorities[name].certificate.public_key())

    def cut_off(self) -> bool:
        """Whether a promotion ended between its two renames: ca.key is the next CA's already."""
        return not self.key("next").exists() and self.belongs("ca", "next")

    def trusted(self, previous: bool = True) -> list[Authority]:
        """All CAs of the folder, each once, the oldest first."""
        wanted = [self.authorities[name] for name in NAMES if name in self.authorities]
        if not previous:
            wanted = [one for one in wanted if one.name != "previous"]
        unique = {one.fingerprint: one for one in wanted}
        return sorted(unique.values(), key=lambda one: one.order)


def _der(public: Any) -> bytes:
    encoding = serialization.Encoding.DER
    return bytes(public.public_bytes(encoding, serialization.PublicFormat.SubjectPublicKeyInfo))


def look(folder: Folder, now: float, warn_days: int) -> dict[str, Any]:
    """What a play needs to know. `fault`: nothing may be done; `key_fault`: nothing may be signed;
    `dark`: somebody's certificates have expired with their CA.
    """
    ca = folder.authorities.get("ca")
    found: dict[str, Any] = {
        "there": ca is not None,
        "next": "next" in folder.authorities,
        "previous": "previous" in folder.authorities,
        "cut_off": folder.cut_off(),
        "fault": _fault(folder, ca),
        "key_fault": _key_fault(folder, ca),
        "expired": bool(ca and ca.ends <= now),
        "dark": any(one.ends <= now for one in folder.authorities.values()),
        "warning": "",
        "ca": ca.says(now) if ca else {},
        "bundle": "".join(one.pem for one in folder.trusted()),
        "bundle_without_previous": "".join(one.pem for one in folder.trusted(previous=False)),
    }
    if ca and found["expired"]:
        ended = ca.certificate.not_valid_after_utc
        found["key_fault"] = found["key_fault"] or (
            f"the CA in {folder.path} has expired ({ended:%Y-%m-%d}): nothing that it signs is believed."
            " Make another one: playbooks/rotate_certificates.yml"
        )
    elif ca and ca.ends - now < warn_days * 86400:
        found["warning"] = (
            f"the CA in {folder.path} ends in {found['ca']['days']} days. Make another one in time:"
            " playbooks/rotate_certificates.yml"
        )
    return found


def _fault(folder: Folder, ca: Authority | None) -> str:
    if folder.unreadable:
        return f"{', '.join(folder.unreadable)}: no certificate can be read there. Bring it back; {KEPT}"
    if ca is None and folder.authorities:
        names = ", ".join(f"{name}.pem" for name in folder.authorities)
        return f"{folder.path} has {names} and no ca.pem. Bring it back; {KEPT}"
    return ""


def _key_fault(folder: Folder, ca: Authority | None) -> str:
    public, problem = folder.public("ca")
    path = folder.key("ca")
    if ca is None:
        # A run that was cut off after the key and before the certificate: the key is used.
        if problem == "passphrase":
            return (
                f"{path} does not open with pki_ca_passphrase, and there is no ca.pem beside it."
                " If it is of no use to anybody, remove it"
            )
        return _unsafe(path, problem)
    if folder.cut_off():
        return (
            f"a rotation was cut off in {folder.path} between two renames."
            " playbooks/rotate_certificates.yml goes on with it"
        )
    if problem == "none":
        return (
            f"{folder.path} has ca.pem and no ca.key: nothing can be signed, and the CA is not replaced"
            f" silently. Bring ca.key back; {KEPT}. If it is lost for good:"
            " playbooks/rotate_certificates.yml -e pki_ca_key_lost=true"
        )
    if problem == "passphrase":
        return (
            f"{path} does not open with pki_ca_passphrase, and the CA is not replaced silently."
            " Correct the passphrase in the vault. If it is lost for good:"
            " playbooks/rotate_certificates.yml -e pki_ca_key_lost=true"
        )
    if problem:
        return _unsafe(path, problem)
    if public != _der(ca.certificate.public_key()):
        return f"{path} is not the key of ca.pem beside it. Bring the right one back; {KEPT}"
    return ""


def _unsafe(path: Path, problem: str) -> str:
    if problem == "clear":
        return f"{path} is not encrypted. Encrypt it with pki_ca_passphrase: openssl pkcs8 -topk8"
    if problem == "unreadable":
        return f"{path}: no private key can be read there. Bring it back; {KEPT}"
    return ""


def promote(folder: Folder) -> bool:
    """The next CA signs from now on. False when there is none."""
    if folder.cut_off():
        return finish(folder)
    if "next" not in folder.authorities or "ca" not in folder.authorities:
        return False
    if not folder.belongs("next", "next"):
        raise SystemExit(
            f"{folder.key('next')} does not open with pki_ca_passphrase, or is not the key of next.pem."
            " Nobody's certificate is of that CA yet: remove next.pem and next.key, and begin again"
        )
    partial = folder.path / ".previous.pem"
    partial.write_text(folder.authorities["ca"].pem, encoding="ascii")
    partial.chmod(0o644)
    partial.replace(folder.path / "previous.pem")
    folder.key("next").replace(folder.key("ca"))
    return finish(folder)


def finish(folder: Folder) -> bool:
    """Ends a promotion whose key has its new name and whose certificate has not."""
    if not folder.cut_off():
        return False
    (folder.path / "next.pem").replace(folder.path / "ca.pem")
    return True


def retire(folder: Folder) -> bool:
    """Nobody trusts the previous CA any more. False when there is none."""
    (folder.path / "previous.pem").unlink(missing_ok=True)
    return "previous" in folder.authorities


def main(words: list[str]) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("action", choices=("look", "promote", "finish", "retire"))
    parser.add_argument("folder", type=Path)
    parser.add_argument("--warn-days", type=int, default=365)
    arguments = parser.parse_args(words)
    folder = Folder(arguments.folder, sys.stdin.read().rstrip("\n").encode())
    if arguments.action == "look":
        now = datetime.datetime.now(datetime.UTC).timestamp()
        print(json.dumps(look(folder, now, arguments.warn_days)))
    else:
        change = {"promote": promote, "finish": finish, "retire": retire}[arguments.action]
        print(json.dumps({"changed": change(folder)}))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
