"""hostctl: the program that lives on each host and does one step of a deploy at a time.

Standard library only, Python 3.9 or newer, shipped as one zipapp. It reads one JSON object and
writes one; it never trusts an upload, and it never changes anything for a controller whose
lease has run out. `verbs.py` lists what it can be asked, `hostctl VERB --help` prints it.
"""

from __future__ import annotations

VERSION = "0.4.0"
PROTOCOL = 2
