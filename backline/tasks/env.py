"""Environments: a fleet's hosts, variables and secrets under inventory/."""

from __future__ import annotations

from pathlib import Path

from invoke.collection import Collection
from invoke.context import Context

from backline.errors import BacklineError
from backline.tasks.command import command, say


@command(
    positional=["name"],
    help={
        "name": "the environment, such as preview",
        "vault_password_file": "the file with the password that its secrets are encrypted with",
        "key": "file with the operator's public SSH key",
        "signer": "file with the public half of the key that signs releases",
        "size": "small: five hosts; full: fifteen",
        "domain": "where its hosts are: edge1.DOMAIN",
        "network": "the first three parts of its hosts' addresses",
        "admin": "the network that operators come from",
    },
)
def new(
    c: Context,
    name: str,
    vault_password_file: str,
    key: str,
    signer: str,
    size: str = "small",
    domain: str = "example.com",
    network: str = "10.0.0",
    admin: str = "10.0.1.0/24",
) -> None:
    """Make an environment from templates/environment/, with secrets of its own."""
    from backline import inventory, places
    from backline.lab.secrets import edge_certificate
    from backline.provision import skeleton
    from backline.transport import local

    wanted = skeleton.Wanted(name, size, domain, network, admin, _public(key), _public(signer))
    place = places.inventory() / name
    wanted.check([*inventory.environments(), *([name] if place.exists() else [])])
    password = Path(vault_password_file).resolve()
    if not password.is_file():
        raise BacklineError(f"there is no file {password}", state="nothing was written")

    def encrypt(text: str) -> str:
        argv = [local.tool("ansible-vault"), "encrypt", "--vault-password-file", str(password)]
        done = local.run([*argv, "--output", "-"], cwd=places.root(), stdin=text)
        if done.code:
            raise BacklineError("ansible-vault could not encrypt", state=done.stderr[-500:])
        return done.stdout

    certificate, _ = edge_certificate([f"music.{domain}"], [])
    skeleton.write(places.root() / "templates" / "environment", place, wanted, certificate, encrypt)
    say(f"inventory/{name}/ is written. Next:")
    for step in (
        f"put the real hosts into inventory/{name}/hosts.yml",
        f"compare and pin their host keys: fab hosts.trust --env {name}",
        "put the edge's real certificate into the vault: "
        f"ansible-vault edit inventory/{name}/group_vars/all/vault.yml",
        f"export ANSIBLE_VAULT_PASSWORD_FILE={password}",
        f"fab provision --env {name}",
    ):
        say(f"  {step}")


def _public(path: str) -> str:
    """The key in a public key file, without its comment; BacklineError when it holds none."""
    try:
        words = Path(path).expanduser().read_text(encoding="utf-8").split()
    except OSError as error:
        raise BacklineError(f"cannot read {path}: {error.strerror}") from None
    if len(words) < 2 or not words[0].startswith(("ssh-", "ecdsa-", "sk-")):
        raise BacklineError(
            f"{path} holds no public SSH key", hint="name the .pub file, never the private one"
        )
    return " ".join(words[:2])


collection = Collection("env", new)
