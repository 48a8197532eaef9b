"""What contributors and CI type: `inv --list` is the table of contents."""

from __future__ import annotations

from invoke.collection import Collection

from backline.tasks import lab

namespace = Collection(lab.collection)
namespace.configure({"tasks": {"auto_dash_names": True}})
