"""What people and programs see: people on stderr, results and NDJSON on stdout."""

from backline.console.data_tier import show_broker, show_database
from backline.console.maintenance import show_maintenance
from backline.console.narrator import Narrator
from backline.console.output import console, line
from backline.console.records import show_events, show_runs
from backline.console.sessions import (
    show_locks,
    show_sessions,
    show_statements,
    show_tables,
)
from backline.console.tables import show_plan, show_status
from backline.console.workers import show_letters, show_workers

__all__ = [
    "Narrator",
    "console",
    "line",
    "show_broker",
    "show_database",
    "show_events",
    "show_letters",
    "show_locks",
    "show_maintenance",
    "show_plan",
    "show_runs",
    "show_sessions",
    "show_statements",
    "show_status",
    "show_tables",
    "show_workers",
]
