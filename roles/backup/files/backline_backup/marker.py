"""Two rows on the leader, and a moment between them: what a recovery to that moment has to show."""

from __future__ import annotations

import secrets
import time
from dataclasses import dataclass
from datetime import datetime

from .errors import BackupError
from .psql import Psql

KEPT_DAYS = 90
APART_SECONDS = 0.2

TABLE = """create table if not exists public.marker (
  run text not null, which text not null check (which in ('before', 'after')),
  at timestamptz not null default clock_timestamp(), noise text not null, digest text not null,
  primary key (run, which));"""
# A digest over the row itself: a row that came back half is as bad as one that did not.
DIGEST = "md5(run || which || extract(epoch from at)::text || noise)"
MOMENT = "select to_json(clock_timestamp());"


@dataclass(frozen=True)
class Marks:
    """A drill's two rows: the row `before` was committed before `moment`, the row `after` later."""

    run: str
    moment: datetime


def insert(run: str, which: str, noise: str) -> str:
    """All three are ours: hexadecimal digits, and one of two words."""
    return f"""insert into public.marker (run, which, at, noise, digest)
select run, which, at, noise, {DIGEST} from (
  select '{run}' as run, '{which}' as which, clock_timestamp() as at, '{noise}' as noise) as new;"""


def found(run: str) -> str:
    seen = f"json_build_array(which, digest = {DIGEST})"
    return f"select {seen} from public.marker where run = '{run}' order by at;"


def prepare(leader: Psql, database: str) -> None:
    old = f"delete from public.marker where at < now() - interval '{KEPT_DAYS} days';"
    leader.run(f"{TABLE}\n{old}", database)


def leave(leader: Psql, database: str) -> Marks:
    """Commits the row before, notes the leader's own time, commits the row after."""
    run = secrets.token_hex(8)
    leader.run(insert(run, "before", secrets.token_hex(32)), database)
    # The clock may be corrected by a little just then.
    time.sleep(APART_SECONDS)
    (moment,) = leader.json(MOMENT, database)
    time.sleep(APART_SECONDS)
    leader.run(insert(run, "after", secrets.token_hex(32)), database)
    return Marks(run, datetime.fromisoformat(moment))


def judge(rows: list[list[object]]) -> None:
    """Raises BackupError unless the row before is there and whole, and the row after is not."""
    which = {str(row[0]): bool(row[1]) for row in rows}
    if "before" not in which:
        raise BackupError("the row that was written before the moment is not there")
    if not which["before"]:
        raise BackupError("the row that was written before the moment is damaged")
    if "after" in which:
        raise BackupError("the row that was written after the moment is there")
