"""What operators type: `fab --list` is the table of contents."""

from __future__ import annotations

from invoke.collection import Collection

from backline.tasks import (
    broker,
    certs,
    completion,
    database,
    deploy,
    doctor,
    draining,
    hosts,
    last_line,
    lock,
    logs,
    maintenance,
    media,
    pipe,
    provision,
    releases,
    report,
    run,
    shell,
    status,
    trail,
    upkeep,
    workers,
)

pipe.end_quietly()
last_line.always()

namespace = Collection(
    broker.collection,
    certs.certs,
    completion.collection,
    database.collection,
    deploy.collection,
    deploy.rollback,
    doctor.doctor,
    hosts.collection,
    lock.collection,
    logs.logs,
    draining.drain,
    draining.undrain,
    maintenance.collection,
    media.collection,
    provision.drift,
    provision.provision,
    releases.releases,
    report.report,
    run.run,
    shell.shell,
    status.status,
    trail.collection,
    upkeep.patch,
    upkeep.reboot,
    upkeep.restart,
    workers.collection,
)
