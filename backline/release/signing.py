"""Signatures of ssh-keygen over release.json."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterable
from pathlib import Path

from backline import places
from backline.errors import BacklineError, Exit
from backline.transport import local

PRINCIPAL = "release@backline"
NAMESPACE = "backline-release"
PROGRAM_NAMESPACE = "backline-hostctl"
SECONDS = 60.0


def signing_key(named: str = "") -> tuple[Path, bool]:
    """The private key to sign with: `named`, else $BACKLINE_SIGNING_KEY, else the checkout's own.

    The checkout's own (.lab/signing_key) is made when it is missing; True says that it was.
    """
    chosen = named or os.environ.get("BACKLINE_SIGNING_KEY", "")
    if chosen:
        if not Path(chosen).is_file():
            raise BacklineError(
                f"there is no signing key {chosen}",
                state="nothing was built",
                hint=f"make one: ssh-keygen -t ed25519 -C {PRINCIPAL} -f {chosen}",
            )
        return Path(chosen), False
    path = places.signing_key()
    if path.exists():
        return path, False
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    words = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", PRINCIPAL, "-f", str(path)]
    done = local.run(words, deadline=SECONDS)
    if done.code:
        raise BacklineError(f"cannot make the signing key {path}", state=done.stderr.strip())
    return path, True


def signer_line(key: Path) -> str:
    """The line of an allowed_signers file for the public half of `key`."""
    public = key.with_name(key.name + ".pub")
    if not public.is_file():
        raise BacklineError(
            f"the public half {public} is missing", hint=f"ssh-keygen -y -f {key} > {public}"
        )
    kind, blob = public.read_text(encoding="utf-8").split()[:2]
    return f'{PRINCIPAL} namespaces="{NAMESPACE},{PROGRAM_NAMESPACE}" {kind} {blob}'


def sign_hostctl(path: Path, key: Path) -> Path:
    """Signs a built hostctl, for the hosts' verb `update`; returns the signature's path.

    The namespace is its own: a signed release is never taken for a program, nor the other way.
    """
    return sign(path, key, PROGRAM_NAMESPACE)


def sign(path: Path, key: Path, namespace: str = NAMESPACE) -> Path:
    """Signs `path` with `key`; returns the signature's path (`path` + .sig)."""
    signature = path.with_name(path.name + ".sig")
    signature.unlink(missing_ok=True)
    done = local.run(
        ["ssh-keygen", "-Y", "sign", "-q", "-f", str(key), "-n", namespace, str(path)],
        deadline=SECONDS,
    )
    if done.code or not signature.exists():
        raise BacklineError(
            f"ssh-keygen could not sign with {key}: {done.stderr.strip()}",
            state="nothing was built",
            hint="is it a private key, without a passphrase or held by your agent?",
        )
    return signature


def verify(path: Path, signature: Path, signers: Iterable[str]) -> None:
    """Checks `signature` over `path` against allowed-signers lines; BacklineError (6) if bad."""
    lines = list(signers)
    if not signature.is_file():
        raise _bad(path, f"{signature} is missing", lines)
    with tempfile.NamedTemporaryFile("w", prefix="allowed_signers.", encoding="utf-8") as allowed:
        allowed.write("\n".join(lines) + "\n")
        allowed.flush()
        words = ["ssh-keygen", "-Y", "verify", "-f", allowed.name, "-I", PRINCIPAL]
        words += ["-n", NAMESPACE, "-s", str(signature)]
        done = local.run(words, stdin=path.read_text(encoding="utf-8"), deadline=SECONDS)
    if done.code:
        raise _bad(path, (done.stderr or done.stdout).strip(), lines)


def _bad(path: Path, reason: str, signers: list[str]) -> BacklineError:
    return BacklineError(
        f"the signature of {path} is not good: {reason}",
        state="the release was changed after signing, or was signed by a key that is not trusted; "
        "nothing was sent to any host",
        hint=f"build it again (inv release.build); trusted: {len(signers)} key(s) of {PRINCIPAL}, "
        "from release_signers in the inventory",
        exit_code=Exit.GUARD_REFUSED,
    )
