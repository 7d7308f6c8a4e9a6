"""What a frontal chest radiograph is and what is none: the pictures that `frontal` learns from.

Rules.
1. Pictures are uint8 [n, 28, 28], as the network of the bundle sees them. `FRONTAL` is what is to
   be kept; each class of `OTHERS` is to be refused.
2. Of PneumoniaMNIST: the images as they are; turned by a quarter; upside down (turned by half, or
   flipped); inverted; a part. Of CTs the same, and what PneumoniaMNIST has not: lateral, oblique
   and the abdomen (projections.py). Of neither: blanks, which are flat, noise, gradients, or a
   collimator's opening with nothing in it.
3. Between FRONTAL_TO and OBLIQUE_FROM degrees nothing is taught: somewhere there a view stops being
   frontal.
4. Both kinds of source show all classes that they have, so that neither gives a class away.
"""

from __future__ import annotations

from collections.abc import Mapping

import cv2
import numpy as np
from scipy import ndimage

from training.read.volume import F32
from training.recipes.chest_pneumonia import projections
from training.recipes.chest_pneumonia.pneumonia_mnist import SIZE, U8
from training.recipes.chest_pneumonia.projections import Body, projected

FRONTAL = "frontal"
OTHERS = (
    "lateral",
    "oblique",
    "abdomen",
    "turned",
    "upside_down",
    "inverted",
    "blank",
    "part",
)
FRONTAL_TO = 12.0
OBLIQUE_FROM, LATERAL_FROM = 45.0, 75.0
"""Degrees from frontal, to either side, seen from before or behind."""
ANGLES = 16
"""Of a class and a CT."""
ILL = 48
"""Of a CT with filled lungs, seen from the front: every one filled anew."""
PART_PX = (10, 14)
"""Edge of a part of an image of PneumoniaMNIST."""

Pictures = Mapping[str, U8]
"""Class -> [n, 28, 28]."""


def of_images(rng: np.random.Generator, images: U8) -> dict[str, U8]:
    """Frontal images [n, 28, 28] and what is made of them (rule 2)."""
    return {
        FRONTAL: images,
        "turned": np.stack([np.rot90(i, rng.choice((1, 3))) for i in images]),
        "upside_down": np.stack(
            [np.rot90(i, 2) if rng.random() < 0.5 else i[::-1] for i in images]
        ),
        "inverted": 255 - images,
    }


def parts(rng: np.random.Generator, images: U8) -> U8:
    """A part of each image, as large as the whole."""
    found = []
    for image in images:
        edge = int(rng.integers(PART_PX[0], PART_PX[1] + 1))
        y, x = rng.integers(0, SIZE - edge + 1, 2)
        some = np.ascontiguousarray(image[y : y + edge, x : x + edge])
        found.append(cv2.resize(some, (SIZE, SIZE), interpolation=cv2.INTER_CUBIC))
    return np.stack(found)


def of_radiographs(rng: np.random.Generator, images: U8) -> Pictures:
    """Of images of PneumoniaMNIST, as many of each class."""
    return {**of_images(rng, images), "part": parts(rng, images)}


def of_body(rng: np.random.Generator, body: Body, each: int) -> Pictures:
    """Of a CT, `each` pictures of a class, from ANGLES angles; no abdomen where the CT shows too
    little of it. Half of the frontal ones have filled lungs (rule 5 of projections.py)."""
    seen = {
        name: [projected(body, _angle(rng, low, high)) for _ in range(min(ANGLES, each))]
        for name, low, high in (
            (FRONTAL, 0, FRONTAL_TO),
            ("oblique", OBLIQUE_FROM, LATERAL_FROM),
            ("lateral", LATERAL_FROM, 90),
        )
    }
    found = {
        name: np.stack([projections.chest(rng, some[i % len(some)]) for i in range(each)])
        for name, some in seen.items()
    }
    front = [seen[FRONTAL][i % len(seen[FRONTAL])] for i in range(each)]
    ill = [
        projected(projections.filled(rng, body), _angle(rng, 0, FRONTAL_TO))
        for _ in range(min(ILL, max(1, each // 2)))
    ]
    for i in range(1, each, 2):
        found[FRONTAL][i] = projections.chest(rng, ill[i // 2 % len(ill)])
    abdomens = [projections.abdomen(rng, one) for one in front]
    if shown := [picture for picture in abdomens if picture is not None]:
        found["abdomen"] = np.stack(shown)
    some = np.stack([projections.part(rng, one) for one in front])
    return {**found, **of_images(rng, found[FRONTAL]), "part": some}


def _angle(rng: np.random.Generator, low: float, high: float) -> float:
    """Degrees between these from frontal: to the left or right, seen from before or behind."""
    degrees = rng.uniform(low, high) * rng.choice((-1, 1))
    return float(degrees if rng.random() < 0.5 else 180 - degrees)


def blanks(rng: np.random.Generator, count: int) -> U8:
    """Pictures of nothing, a quarter of each kind."""
    kinds = (_flat, _clouds, _gradient, _opening)
    made = [kinds[i % len(kinds)](rng) for i in range(count)]
    whole = np.clip(np.stack(made), 0, 1) * 255
    return np.asarray(np.rint(whole), np.uint8)


def _flat(rng: np.random.Generator) -> F32:
    noise = rng.normal(0, rng.uniform(0, 0.08), (SIZE, SIZE))
    return np.asarray(rng.uniform(0, 1) + noise, np.float32)


def _clouds(rng: np.random.Generator) -> F32:
    noise = ndimage.gaussian_filter(rng.standard_normal((SIZE, SIZE)), rng.uniform(0, 4))
    return np.asarray(0.5 + rng.uniform(0.05, 0.25) * noise / noise.std(), np.float32)


def _gradient(rng: np.random.Generator) -> F32:
    y, x = np.mgrid[-1 : 1 : SIZE * 1j, -1 : 1 : SIZE * 1j]
    angle = rng.uniform(0, 2 * np.pi)
    ramp = y * np.sin(angle) + x * np.cos(angle) + rng.uniform(-1, 1) * (y**2 + x**2)
    noise = rng.normal(0, 0.02, ramp.shape)
    return np.asarray(0.5 + rng.uniform(0.1, 0.5) * ramp + noise, np.float32)


def _opening(rng: np.random.Generator) -> F32:
    y, x = np.mgrid[-1 : 1 : SIZE * 1j, -1 : 1 : SIZE * 1j]
    ry, rx = rng.uniform(0.3, 0.95, 2)
    middle = rng.uniform(-0.3, 0.3, 2)
    dy, dx = np.abs(y - middle[0]) / ry, np.abs(x - middle[1]) / rx
    inside = (np.maximum(dy, dx) < 1) if rng.random() < 0.5 else (dy**2 + dx**2 < 1)
    light = ndimage.gaussian_filter(inside.astype(float), rng.uniform(0, 0.8))
    dark, bright = rng.uniform(0, 0.2), rng.uniform(0.4, 1)
    noise = rng.normal(0, rng.uniform(0, 0.05), light.shape)
    return np.asarray(dark + (bright - dark) * light + noise, np.float32)
