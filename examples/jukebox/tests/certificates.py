"""Certificates of the tests' own: authorities, and what they signed."""

from __future__ import annotations

import subprocess
from pathlib import Path

KEY = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]


class Authority:
    """`ca` is its certificate; `sign` gives names a certificate and a key."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir()
        self.folder = folder
        self.ca = folder / "ca.pem"
        self._openssl(
            "req", "-x509", *KEY, "-subj", "/CN=ca", "-days", "2",
            "-addext", "keyUsage=critical,keyCertSign", "-keyout", "ca.key", "-out", self.ca,
        )  # fmt: skip

    def sign(self, names: str, days: int = 1) -> tuple[Path, Path]:
        """(certificate, key) for names such as "DNS:database,IP:127.0.0.1"; days < 0: expired."""
        certificate, key = self.folder / f"host{days}.pem", self.folder / f"host{days}.key"
        self._openssl(
            "req", *KEY, "-subj", "/CN=host", "-addext", f"subjectAltName={names}",
            "-keyout", key, "-out", "host.csr",
        )  # fmt: skip
        self._openssl(
            "x509", "-req", "-in", "host.csr", "-CA", self.ca, "-CAkey", "ca.key",
            "-copy_extensions", "copyall", "-days", str(days), "-out", certificate,
        )  # fmt: skip
        return certificate, key

    def _openssl(self, *arguments: str | Path) -> None:
        subprocess.run(["openssl", *arguments], cwd=self.folder, check=True, capture_output=True)
