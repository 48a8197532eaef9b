"""One JSON object per line on standard output; the journal keeps it."""

from __future__ import annotations

import json
import logging
import os
from datetime import UTC, datetime

#: What every record has; all other attributes were given as `extra` and are printed.
_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {
    "message", "asctime", "taskName", "request", "server_time", "data",
}  # fmt: skip


class JsonFormatter(logging.Formatter):
    """`logger.info("play queued", extra={"play": id})` → {"at":…,"message":"play queued","play":…}"""

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, object] = {
            "at": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            "release": os.environ.get("BACKLINE_RELEASE", "unreleased"),
        }
        line |= {key: value for key, value in vars(record).items() if key not in _STANDARD}
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)
        return json.dumps(line, default=str, ensure_ascii=False)
