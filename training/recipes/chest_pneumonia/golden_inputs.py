"""What the networks are fed with in their golden cases: our own phantom from the front, and for the
network that tells frontal views also turned and inverted."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np

from appliance.phantom.chest import chest
from training.read.volume import F32
from training.recipes.chest_pneumonia import bundle
from training.recipes.chest_pneumonia.pneumonia_mnist import SIZE
from training.ship.goldens import case


def radiograph(seed: int) -> F32:
    """Our phantom seen from the front, [28, 28] in [0, 1], bones bright."""
    phantom = chest(seed, spacing_mm=(4.0, 2.0, 2.0))
    dense = np.clip(phantom.hu.astype(np.float32) + 1000, 0, None)
    path = np.ascontiguousarray(dense.mean(axis=1)[::-1])  # through the body; head first
    edge = round(min(path.shape[0] * 2, path.shape[1]))
    path = cv2.resize(path, (path.shape[1], path.shape[0] * 2), interpolation=cv2.INTER_LINEAR)
    top, left = (path.shape[0] - edge) // 2, (path.shape[1] - edge) // 2
    small = cv2.resize(
        path[top : top + edge, left : left + edge], (SIZE, SIZE), interpolation=cv2.INTER_AREA
    )
    low, high = np.quantile(small, [0.02, 0.98])
    return np.asarray(np.clip((small - low) / max(high - low, 1e-6), 0, 1), np.float32)


def record_frontal(network: bytes, out: Path) -> dict[str, Any]:
    """The same of the network that tells frontal views."""
    image = np.stack([radiograph(seed) for seed in range(4)])[:, None]
    image = np.concatenate([image, np.rot90(image, axes=(2, 3)), 1 - image])
    entry = bundle.frontal_network("0" * 64)
    return case("frontal", entry, network, np.ascontiguousarray(image), out)


def record(network: bytes, out: Path) -> dict[str, Any]:
    """Writes one recorded run to golden/; returns the entry for it."""
    image = np.stack([radiograph(seed) for seed in range(4)])[:, None]
    image = np.concatenate([image, image**2, 0.5 + 0.4 * (image - 0.5)])
    return case("classify", bundle.network("0" * 64), network, image, out)
