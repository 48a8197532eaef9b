"""What contributors and CI type: `inv --list` is the table of contents."""

from __future__ import annotations

from invoke.collection import Collection

from backline.tasks import audit, bench, demo, docs, env, lab, pipe, quality, release, test

pipe.end_quietly()

namespace = Collection(
    audit.collection,
    bench.collection,
    demo.demo,
    docs.docs,
    env.collection,
    quality.fmt,
    quality.lint,
    quality.lock,
    lab.collection,
    release.collection,
    test.collection,
)
