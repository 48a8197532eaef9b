"""What operators type: `fab --list` is the table of contents."""

from __future__ import annotations

from invoke.collection import Collection

from backline.tasks import (
    broker,
    database,
    deploy,
    logs,
    pipe,
    provision,
    report,
    run,
    shell,
    status,
    trail,
)

pipe.end_quietly()

namespace = Collection(
    broker.collection,
    database.collection,
    deploy.collection,
    deploy.rollback,
    logs.logs,
    provision.drift,
    provision.provision,
    report.report,
    run.run,
    shell.shell,
    status.status,
    trail.collection,
)
