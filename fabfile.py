"""What operators type: `fab --list` is the table of contents."""

from __future__ import annotations

from invoke.collection import Collection

from backline.tasks import deploy, provision, status

namespace = Collection(
    deploy.collection,
    deploy.rollback,
    provision.drift,
    provision.provision,
    status.status,
)
