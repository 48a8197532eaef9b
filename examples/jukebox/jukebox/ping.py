"""`python -m jukebox.ping NAME`: is the worker NAME on this host taking orders?

Exit 0 when it answers, 1 when it doesn't. Much cheaper than `celery inspect ping`, and it asks one
worker only, where `inspect` would wait for all of the fleet.
"""

from __future__ import annotations

import sys
from socket import gethostname

PATIENCE = 3.0


def main(name: str) -> int:
    """Asks once. Returns the exit status."""
    from jukebox import broker

    node = f"{name}@{gethostname()}"
    try:
        with broker.connection() as link:
            answers = broker.app.control.ping(
                destination=[node], timeout=PATIENCE, limit=1, connection=link
            )
    except Exception as error:
        print(f"{node}: cannot ask, the broker is away: {error}", file=sys.stderr)
        return 1
    if not answers:
        print(f"{node}: no answer within {PATIENCE:g} s", file=sys.stderr)
        return 1
    print(f"{node}: pong")
    return 0


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: python -m jukebox.ping NAME")
    sys.exit(main(sys.argv[1]))
