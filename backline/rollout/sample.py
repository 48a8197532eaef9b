"""What the probe saw, as the rollout judges it.

Defined beside the other things that transport and domain share, since transport may not import the
domain.
"""

from backline.transport.port import Sample

__all__ = ["Sample"]
