"""How many upgrades wait on this host. Asking apt takes seconds, so that it is not done while anybody
waits: `facts` tells what was found last, and has it found again when it is out of date.
"""

from __future__ import annotations

import json
import re

from . import files
from .host import Host

KEPT = "/run/backline/upgrades.json"
UNIT = "backline-upgrades"
UPGRADE = re.compile(r"^Inst \S+ \[[^\]]*\] \(\S+ ([^)]*)\)", re.M)
SECURITY = re.compile(r"Debian-Security:|/\S*-security\b")
ASK_WITHIN = 120.0
ORDER_WITHIN = 5.0


def known(host: Host) -> dict[str, int] | None:
    """{all, security}: packages that have an upgrade, and those of them from a security archive.

    None where apt has no lists, and until it was asked about the lists and packages of now: that is
    ordered here, of systemd, and done when nobody else needs the processor.
    """
    now = _known_by(host)
    if now is None:
        return None
    try:
        found = json.loads(host.path(KEPT).read_text())
        if found["known_by"] == now:
            upgrades = found["upgrades"]
            return upgrades and {"all": int(upgrades["all"]), "security": int(upgrades["security"])}
    except (OSError, ValueError, LookupError, TypeError):
        pass
    argv = ["systemd-run", "--quiet", "--collect", "--no-block", f"--unit={UNIT}"]
    argv += ["--property=CPUSchedulingPolicy=idle", "--property=IOSchedulingClass=idle"]
    # Refused while it is at work: one at a time is enough.
    host.run([*argv, "/usr/local/bin/hostctl", "upgrades"], timeout=ORDER_WITHIN)
    return None


def run(host: Host, arguments: list[str]) -> int:
    """`hostctl upgrades`, for the unit that `known` orders: asks apt, and keeps the answer until the
    next boot. An apt that fails is not asked again before something changes."""
    now = _known_by(host)
    if arguments or now is None:
        return 2
    ended = host.run(["apt-get", "--simulate", "--quiet", "dist-upgrade"], timeout=ASK_WITHIN)
    upgrades = None
    if ended.status == 0:
        origins = UPGRADE.findall(ended.out)
        security = sum(1 for origin in origins if SECURITY.search(origin))
        upgrades = {"all": len(origins), "security": security}
    kept = host.path(KEPT)
    kept.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
    files.write_atomic(kept, json.dumps({"known_by": now, "upgrades": upgrades}).encode())
    return 0 if upgrades is not None else 1


def _known_by(host: Host) -> list[int] | None:
    """What changes whenever the answer may; None without lists."""
    lists = list(host.path("/var/lib/apt/lists").glob("*_Packages*"))
    if not lists:
        return None
    newest = max(path.stat().st_mtime_ns for path in lists)
    return [newest, host.path("/var/lib/dpkg/status").stat().st_mtime_ns]
