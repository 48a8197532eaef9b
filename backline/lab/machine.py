"""Fits podman to this machine: installs it where it may, finds the settings that boot a host.

Some machines refuse podman's defaults: a hybrid cgroup layout that crun will not take, or ulimits
that may not be raised. What works is found by trying and written to .lab/containers.conf.
"""

from __future__ import annotations

import os
import resource
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from backline.errors import BacklineError
from backline.lab.topology import ROOT

STATE = ROOT / ".lab"
CONTAINERS_CONF = STATE / "containers.conf"
FITTED = STATE / "fitted"
BOOT = 30
"""Seconds that a host on trial has until systemd answers."""
PACKAGES = ("podman", "runc", "netavark", "aardvark-dns", "nftables", "iptables")
POLICY = Path("/usr/sbin/policy-rc.d")
Say = Callable[[str], None]


def install(packages: Sequence[str], why: str, say: Say) -> None:
    """Installs Debian packages, or raises BacklineError saying exactly what to install by hand."""
    command = f"apt-get install -y --no-install-recommends {' '.join(packages)}"
    if not shutil.which("apt-get") or os.geteuid() != 0:
        sudo = "sudo " if os.geteuid() != 0 else ""
        raise BacklineError(
            f"{why} is needed and not installed",
            state="nothing was changed",
            hint=f"on Debian: {sudo}{command}   (or run this as root); "
            "on macOS: brew install podman && podman machine init && podman machine start",
        )
    say(f"installing {' '.join(packages)}")
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    for step in (["apt-get", "update", "-q"], command.split()):
        with _no_daemons():
            done = subprocess.run(
                step, env=environment, capture_output=True, text=True, check=False
            )
        if done.returncode != 0:
            raise BacklineError(
                f"`{' '.join(step)}` failed with exit code {done.returncode}",
                state="the lab was not touched",
                hint=_tail(done.stderr or done.stdout),
            )


@contextmanager
def _no_daemons() -> Iterator[None]:
    """What is installed for tests starts nothing on this machine: Debian's packages ask this file."""
    if POLICY.exists():
        yield
        return
    POLICY.write_text("#!/bin/sh\nexit 101\n", encoding="utf-8")
    POLICY.chmod(0o755)
    try:
        yield
    finally:
        POLICY.unlink()


def ensure_podman(say: Say) -> None:
    """Makes sure that podman is there, and uses the settings an earlier probe found."""
    if not shutil.which("podman"):
        install(PACKAGES, "podman", say)
    if CONTAINERS_CONF.exists():
        os.environ["CONTAINERS_CONF"] = str(CONTAINERS_CONF)


def fitted() -> bool:
    """Whether an earlier probe of this machine, with this podman, found what works."""
    return FITTED.exists() and FITTED.read_text(encoding="utf-8") == podman("--version")


def fit(image: str, say: Say) -> None:
    """Finds settings with which `image` boots systemd to `running`, and keeps them.

    Raises BacklineError with what each attempt said when none does.
    """
    attempts: list[str] = []
    for label, text in _candidates():
        _use(text)
        problem = _boot(image)
        if problem is None:
            if text:
                say(f"this machine needs podman with {label}: kept in {CONTAINERS_CONF}")
            FITTED.write_text(podman("--version"), encoding="utf-8")
            return
        attempts.append(f"{label}: {problem}")
    _use("")
    raise BacklineError(
        "podman cannot boot a host with systemd on this machine",
        state="no host was made",
        hint="tried " + "\n".join(attempts),
    )


def _candidates() -> Iterator[tuple[str, str]]:
    if "CONTAINERS_CONF" in os.environ and CONTAINERS_CONF.exists():
        yield "the settings found before", CONTAINERS_CONF.read_text(encoding="utf-8")
    runc = '[engine]\nruntime = "runc"\n'
    engines = [("runc", runc)] if shutil.which("runc") else []
    engines.append(("its own runtime", ""))
    yield "its defaults", ""
    yield from engines[:-1]
    # podman lowers its own limit of processes first, to a number it does not tell.
    for processes in (65536, 32768, 16384, 4096):
        for label, engine in engines:
            yield f"{label} and at most {processes} processes", engine + _ulimits(processes)


def _ulimits(processes: int) -> str:
    """Ulimits that are no higher than this process' own, which may not be raised."""
    limits = []
    for name, limit, most in (
        ("nofile", resource.RLIMIT_NOFILE, 1_048_576),
        ("nproc", resource.RLIMIT_NPROC, processes),
    ):
        hard = resource.getrlimit(limit)[1]
        value = most if hard == resource.RLIM_INFINITY else min(hard, most)
        limits.append(f'"{name}={value}:{value}"')
    return f"[containers]\ndefault_ulimits = [{', '.join(limits)}]\n"


def _use(text: str) -> None:
    STATE.mkdir(mode=0o700, exist_ok=True)
    if text:
        CONTAINERS_CONF.write_text(text, encoding="utf-8")
        os.environ["CONTAINERS_CONF"] = str(CONTAINERS_CONF)
    else:
        CONTAINERS_CONF.unlink(missing_ok=True)
        os.environ.pop("CONTAINERS_CONF", None)


def _boot(image: str) -> str | None:
    name = f"backline-probe-{os.getpid()}"
    try:
        started = _podman("run", "-d", "--name", name, *HOST_OPTIONS, image)
        if started.returncode != 0:
            return _tail(started.stderr)
        deadline = time.monotonic() + BOOT
        while True:
            up = _podman("exec", name, "systemctl", "is-system-running", "--wait")
            # systemd has no bus to be asked on in its first moments, longer on a busy machine.
            if up.stdout.strip() or time.monotonic() > deadline:
                break
            time.sleep(0.2)
        if up.stdout.strip() not in {"running", "degraded"}:
            return f"systemd is {up.stdout.strip() or _tail(up.stderr)}"
        return None
    except subprocess.TimeoutExpired:
        return f"systemd did not come up within {BOOT} s"
    finally:
        _podman("rm", "-f", "-t", "0", name)


# The role base's sysctls of a host's own network: inside a container nobody may set them.
NETWORK = (
    "ipv4.conf.all.rp_filter=1",
    "ipv4.conf.all.log_martians=1",
    "ipv4.conf.default.log_martians=1",
    "ipv4.conf.all.send_redirects=0",
    "ipv4.conf.default.accept_redirects=0",
    "ipv4.conf.default.accept_source_route=0",
    "ipv6.conf.all.accept_redirects=0",
    "ipv6.conf.default.accept_redirects=0",
)

# What a host with systemd, nftables, keepalived and PostgreSQL needs, and no more: never
# --privileged, which hands the machine's disks to the host.
HOST_OPTIONS = (
    "--systemd=always",
    "--cap-add=SYS_ADMIN,NET_ADMIN,NET_RAW,AUDIT_WRITE",
    "--no-hosts",
    "--shm-size=256m",
    *(f"--sysctl=net.{setting}" for setting in NETWORK),
)


def _podman(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["podman", *words], capture_output=True, text=True, timeout=BOOT, check=False
    )


def _tail(text: str, lines: int = 3) -> str:
    return " / ".join(text.strip().splitlines()[-lines:]) or "no output"


def exists(kind: str, name: str) -> bool:
    """Whether podman has the `kind` (image, network, …) called `name`."""
    done = subprocess.run(["podman", kind, "exists", name], capture_output=True, check=False)
    return done.returncode == 0


def podman(*words: str, data: bytes | None = None, timeout: float = 300) -> str:
    """Runs podman and returns what it printed; BacklineError with its last words when it fails."""
    try:
        done = subprocess.run(
            ["podman", *words], input=data, capture_output=True, timeout=timeout, check=False
        )
    except subprocess.TimeoutExpired as error:
        raise BacklineError(
            f"`podman {' '.join(words[:3])} …` did not finish within {timeout:.0f} s",
            hint="look at `podman ps -a`, then run the same command again",
        ) from error
    if done.returncode != 0:
        text = _tail(done.stderr.decode(errors="replace"))
        raise BacklineError(f"`podman {' '.join(words[:3])} …` failed: {text}", hint=_advice(text))
    return done.stdout.decode(errors="replace")


def remove(*containers: str, grace: int = 0, tries: int = 4) -> None:
    """Removes containers and their volumes, running or not; `grace` s pass before they are killed.

    podman gives a killed container five seconds and then fails, though on a busy machine its last
    process dies a moment later: so it is asked again, `tries` times in all.
    """
    while True:
        tries -= 1
        try:
            podman("rm", "--force", "--ignore", "--volumes", "--time", str(grace), *containers)
        except BacklineError:
            if tries <= 0:
                raise
            time.sleep(2)
        else:
            return


def _advice(text: str) -> str:
    if "no space left" in text.lower():
        free = shutil.disk_usage("/").free // 2**20
        return f"the disk is full ({free} MiB free): make room, then run the same command again"
    if "address already in use" in text.lower():
        return "another program took the port meanwhile: end it, then `inv lab.up` again"
    return "see `inv lab.status`; `inv lab.down` and `inv lab.up` start anew"
