"""Which bundles find what can be found again in another exam of the same person. Pure.

What is asked is what the line says of itself, never which kind it is.
"""

from __future__ import annotations

from appliance.bundle.manifest import Manifest


def follows(manifest: Manifest) -> bool:
    """Whether it finds nodules in the slices of a volume."""
    return manifest.line.sees_slices and "nodule" in manifest.line.finds
