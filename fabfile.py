"""What operators type: `fab --list` is the table of contents."""

from __future__ import annotations

from invoke.collection import Collection

from backline.tasks import (
    broker,
    database,
    deploy,
    draining,
    maintenance,
    media,
    pipe,
    provision,
    report,
    status,
    trail,
    upkeep,
    workers,
)

pipe.end_quietly()

namespace = Collection(
    broker.collection,
    database.collection,
    deploy.collection,
    deploy.rollback,
    draining.drain,
    draining.undrain,
    maintenance.collection,
    media.collection,
    provision.drift,
    provision.provision,
    report.report,
    status.status,
    trail.collection,
    upkeep.patch,
    upkeep.reboot,
    upkeep.restart,
    workers.collection,
)
