"""Writes a new environment's folder: hosts, variables, and secrets that never touch the disk in clear."""

from __future__ import annotations

import re
import secrets
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from backline.errors import BacklineError

NAME = re.compile(r"[a-z][a-z0-9-]{1,30}")
# name, last part of the address, zone, groups
SIZES: dict[str, list[tuple[str, int, str, tuple[str, ...]]]] = {
    "small": [
        ("edge1", 11, "a", ("edge",)),
        ("stream1", 21, "a", ("streaming",)),
        ("stream2", 22, "b", ("streaming",)),
        ("db1", 31, "a", ("database", "broker")),
        ("worker1", 51, "a", ("worker", "media", "monitor", "backup")),
    ],
    "full": [
        *((f"edge{n}", 10 + n, "ab"[n - 1], ("edge",)) for n in (1, 2)),
        *((f"stream{n}", 20 + n, "abc"[n - 1], ("streaming",)) for n in (1, 2, 3)),
        *((f"db{n}", 30 + n, "abc"[n - 1], ("database",)) for n in (1, 2, 3)),
        *((f"broker{n}", 40 + n, "abc"[n - 1], ("broker",)) for n in (1, 2, 3)),
        *((f"worker{n}", 50 + n, "ab"[n - 1], ("worker",)) for n in (1, 2)),
        ("media1", 61, "a", ("media",)),
        ("monitor1", 71, "c", ("monitor", "backup")),
    ],
}
PASSWORDS = (
    "vault_database_superuser_password",
    "vault_database_replication_password",
    "vault_database_etcd_password",
    "vault_jukebox_database_password",
    "vault_jukebox_secret_key",
    "vault_broker_cookie",
    "vault_pki_passphrase",
    "vault_backup_passphrase",
    "vault_backup_drill_password",
    "vault_jukebox_broker_password",
)


@dataclass(frozen=True)
class Wanted:
    """What a new environment is to be. `network`: the first three parts of its hosts' addresses."""

    name: str
    size: str
    domain: str
    network: str
    admin: str
    key: str
    signer: str

    def check(self, taken: list[str]) -> None:
        """Raises BacklineError when no environment can be made of this."""
        wrong = ""
        if not NAME.fullmatch(self.name) or self.name.startswith("lab"):
            wrong = f"{self.name!r} is no name: lower-case letters, digits and '-', not lab…"
        elif self.name in taken:
            wrong = f"there is an environment {self.name!r} already"
        elif self.size not in SIZES:
            wrong = f"{self.size!r} is no size: {' or '.join(SIZES)}"
        elif not re.fullmatch(r"\d{1,3}(\.\d{1,3}){2}", self.network):
            wrong = f"{self.network!r} is no network: three numbers, such as 10.0.0"
        elif not re.fullmatch(r"[a-z0-9.-]+", self.domain):
            wrong = f"{self.domain!r} is no domain"
        if wrong:
            raise BacklineError(wrong, state="nothing was written")


def write(
    templates: Path, place: Path, wanted: Wanted, certificate: str, encrypt: Callable[[str], str]
) -> None:
    """Writes the folder `place`, whole or not at all. `encrypt` turns a text into a vault."""
    import yaml
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    hosts = SIZES[wanted.size]
    groups: dict[str, list[str]] = {}
    for host, _, zone, names in hosts:
        for group in (*names, f"zone_{zone}"):
            groups.setdefault(group, []).append(host)
    values = {
        **vars(wanted),
        "hosts": hosts,
        "groups": groups,
        "site": f"music.{wanted.domain}",
        "virtual": f"{wanted.network}.10" if len(groups["edge"]) > 1 else "",
        "confirm": wanted.size == "full",
    }
    jinja = Environment(  # noqa: S701 (YAML, not HTML)
        loader=FileSystemLoader(templates),
        undefined=StrictUndefined,
        trim_blocks=True,
        keep_trailing_newline=True,
    )
    partial = place.with_name(f".{place.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    for source in sorted(path for path in templates.rglob("*") if path.is_file()):
        name = source.relative_to(templates)
        target = partial / (name.with_suffix("") if name.suffix == ".j2" else name)
        target.parent.mkdir(parents=True, exist_ok=True)
        text = source.read_text(encoding="utf-8")
        if name.suffix == ".j2":
            text = jinja.from_string(text).render(values)
        target.write_text(text, encoding="utf-8")
    vault = {key: secrets.token_urlsafe(32) for key in PASSWORDS}
    vault["vault_edge_certificate"] = certificate
    sealed = encrypt("---\n" + yaml.safe_dump(vault, default_style="|"))
    (partial / "group_vars" / "all" / "vault.yml").write_text(sealed, encoding="utf-8")
    partial.rename(place)
