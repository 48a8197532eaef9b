"""No room for WAL on the primary, and an archive that is gone: somebody is told, and nothing is lost.

When the cause is gone everything catches up without hands, and amcheck finds nothing.
"""

from __future__ import annotations

import contextlib
import time

from backline.errors import BacklineError
from tests.data import alerts, cluster, faults, summary
from tests.data.remote import wait_until
from tests.data.test_backup import archive, keeper
from tests.data.trial import Trial
from tests.live import Fleet

SIZE = "full"
WAL = "/var/lib/postgresql/15/jukebox/pg_wal"
SPARE_MB = 96
BACK_S = 30.0
PAUSE_S = 5.0


def lead(fleet: Fleet, host: str) -> None:
    """Has a host lead: first as the synchronous standby, the only one that may."""
    standby = cluster.standby(fleet)
    if host != standby:
        with faults.away(fleet, "patroni", standby):
            wait_until(f"{host} is next", 120, lambda: host in cluster.role(fleet, "Sync Standby"))
        cluster.settled(fleet)
    patronictl = ("patronictl", "-c", "/etc/patroni/patroni.yml", "switchover", "--force")
    words = ("--leader", cluster.leader(fleet), "--candidate", host)
    cluster.inside(fleet, host, *patronictl, *words, timeout=120)
    cluster.settled(fleet)
    assert cluster.leader(fleet) == host


def test_the_primary_has_no_room_for_wal(whole: Fleet) -> None:
    """It cannot go on, so another one does; it comes back by itself when there is room again."""
    victim = cluster.role(whole, "Replica")[0]
    beside = "/var/lib/postgresql/.fault-disk"
    with faults.Disk(whole, victim, WAL, spare=SPARE_MB, units="patroni", beside=beside) as disk:
        cluster.settled(whole)
        lead(whole, victim)
        quiet = alerts.firing(whole)
        with Trial(whole, "WAL disk full on the primary") as trial:
            disk.fill()
            wait_until("it leads no more", 180, lambda: _used_up(whole, victim), every=1)
            trial.back(2 * BACK_S)
            rang = wait_until(
                f"an alert for {victim}",
                alerts.ALERT_S,
                lambda: alerts.about(whole, victim, quiet),
                every=5,
            )
            said = sorted(alerts.about(whole, victim, quiet))
            disk.empty()
            caught = cluster.settled(whole)
        summary.note(
            "WAL disk full on the primary: alerts",
            alerts=", ".join(said),
            after_seconds=round(rang),
            in_step_again_seconds=round(caught, 1),
        )
    cluster.settled(whole)
    trial.verdict.safe()
    assert trial.verdict.clients.pause <= BACK_S
    cluster.amcheck(whole)


def _used_up(fleet: Fleet, victim: str) -> bool:
    """Needs another segment of WAL on the victim; whether somebody else leads by now."""
    with contextlib.suppress(BacklineError):
        row = f"wal-{time.monotonic()}"
        cluster.sql(fleet, f"INSERT INTO fault_rows VALUES ('{row}')", victim)
        cluster.sql(fleet, "SELECT pg_switch_wal()", victim)
    return victim not in cluster.role(fleet, "Leader")


def test_the_archive_is_gone(whole: Fleet) -> None:
    """Writes go on, WAL is kept, and goes into the archive when it is back."""
    host = keeper(whole)
    with Trial(whole, "WAL archive gone") as trial:
        with faults.away(whole, "pgbackrest-server", host):
            cluster.sql(whole, "SELECT pg_switch_wal()")
            rang = wait_until(
                "the alert WalArchiveFailing",
                alerts.ALERT_S,
                lambda: "WalArchiveFailing" in {alert for alert, _ in alerts.firing(whole)},
                every=5,
            )
            waiting = archive(whole)["backline_archive_waiting_segments"]
            assert waiting > 0
        caught = wait_until(
            "the archive has all",
            180,
            lambda: archive(whole)["backline_archive_waiting_segments"] == 0,
            every=2,
        )
    summary.note(
        "WAL archive gone: WalArchiveFailing",
        after_seconds=round(rang),
        segments_kept=int(waiting),
        caught_up_seconds=round(caught, 1),
    )
    trial.verdict.safe()
    trial.verdict.silent()
    assert trial.verdict.clients.pause <= PAUSE_S
    cluster.amcheck(whole)
    gone = {alert for alert, _ in alerts.firing(whole)}
    if "WalArchiveFailing" in gone:
        wait_until(
            "the alert is over",
            alerts.ALERT_S,
            lambda: "WalArchiveFailing" not in {alert for alert, _ in alerts.firing(whole)},
            every=5,
        )
