"""What people and programs see: people on stderr, results and NDJSON on stdout."""

from backline.console.data_tier import show_broker, show_database
from backline.console.fleet_table import show_status, watch_status
from backline.console.lists import (
    show_certificates,
    show_finding,
    show_groups,
    show_hosts,
    show_keys,
    show_leases,
    show_releases,
)
from backline.console.maintenance import show_maintenance
from backline.console.narrator import Narrator
from backline.console.output import console, line
from backline.console.records import show_commands, show_events, show_runs
from backline.console.sessions import (
    show_locks,
    show_sessions,
    show_statements,
    show_tables,
)
from backline.console.tables import show_plan, show_takeover
from backline.console.workers import show_letters, show_workers

__all__ = [
    "Narrator",
    "console",
    "line",
    "show_broker",
    "show_certificates",
    "show_commands",
    "show_database",
    "show_events",
    "show_finding",
    "show_groups",
    "show_hosts",
    "show_keys",
    "show_leases",
    "show_letters",
    "show_locks",
    "show_maintenance",
    "show_plan",
    "show_releases",
    "show_runs",
    "show_sessions",
    "show_statements",
    "show_status",
    "show_tables",
    "show_takeover",
    "watch_status",
    "show_workers",
]
