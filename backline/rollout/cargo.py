"""What travels to a host and becomes a release there: a patch if it has something close, else all."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from backline.rollout.crew import Ask, Job, Settled
from backline.rollout.events import Event
from backline.rollout.plan import Plan
from backline.rollout.reach import Reach
from backline.transport.port import HostError

STAGE_SECONDS = 600.0
FETCH_SECONDS = 1800.0
SLOWEST_BYTES = 256 * 1024
"""Bytes per second below which an upload counts as hung."""


@dataclass(frozen=True)
class Cargo:
    """The files of a release: its document and signature, the whole archive, and patches by base.

    `addresses`: where hosts find the files by themselves ({name: address}); then nothing is sent.
    """

    plan: Plan
    papers: tuple[Path, ...]
    archive: Path
    patches: Mapping[str, Path]
    addresses: Mapping[str, str] | None = None

    def bring(self, host: str, reach: Reach, there: bool) -> Job:
        """Sends what the host lacks and stages it; where it is already, that is only said again."""
        base = self.plan.sent[host].base if host in self.plan.sent else None
        patch = self.patches.get(base) if base else None
        if there:
            yield from self._stage(host, reach, None)
            return
        if patch is not None:
            try:
                yield from self._transfer(host, reach, (*self.papers, patch))
                yield from self._stage(host, reach, base)
                return
            except HostError as error:
                if error.code != "no_base":
                    raise
                reach.warn(error, "sending all of it: ")
        yield from self._transfer(host, reach, (*self.papers, self.archive))
        yield from self._stage(host, reach, None)

    def take_back(self, host: str, reach: Reach) -> Job:
        """What a host refused must not lie in the way when the release is shipped again."""
        names = [path.name for path in (*self.papers, self.archive, *self.patches.values())]
        yield Settled(host)
        yield Ask(host, lambda: reach.fleet.discard(host, names), 30.0)

    def _transfer(self, host: str, reach: Reach, files: Sequence[Path]) -> Job:
        began = reach.clock.monotonic()
        reach.report(Event("begin", host, text="ship"))
        size = sum(file.stat().st_size for file in files)
        if self.addresses is None:
            deadline = 60.0 + size / SLOWEST_BYTES
            sent = yield Ask(host, lambda: reach.fleet.ship(host, files, _shown(reach)), deadline)
        else:
            wanted = [
                {"name": f.name, "url": self.addresses[f.name], "size": f.stat().st_size}
                for f in files
            ]
            fields: dict[str, Any] = {"release": self.plan.release, "files": wanted}
            answer = yield reach.change(host, "fetch", fields, FETCH_SECONDS)
            sent = answer["fetched"]
        took = reach.clock.monotonic() - began
        reach.report(
            Event("ship", host, release=self.plan.release, seconds=took, data={"bytes": sent})
        )

    def _stage(self, host: str, reach: Reach, base: str | None) -> Job:
        fields = {"release": self.plan.release, **({"base": base} if base else {})}
        ask = reach.change(host, "stage", fields, STAGE_SECONDS)
        yield from reach.patient(ask, "stage", release=self.plan.release)


def _shown(reach: Reach) -> Any:
    def shipped(host: str, sent: int, total: int) -> None:
        reach.report(Event("progress", host=host, data={"sent": sent, "total": total}))

    return shipped
