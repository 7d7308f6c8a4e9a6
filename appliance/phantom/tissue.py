"""The tissues of the phantom, painted slice by slice from the air inwards.

Rules of this module:

1. Fields that cost much are computed on a coarse grid and interpolated; spine and small bones,
   whose edges are sharp, on the fine one.
2. Painters run from the outside to the inside, and what comes later lies on top.
3. Each slice ends with the in-plane point spread of its kernel.
4. With a field (`field`), what lies in the lungs and what bounds them is drawn from where the field
   says, and the chest wall from where its walls say; the spine and the organs of the belly stay.
   The lung is the denser the more the field has pressed it together.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Final

import cv2
import numpy as np
import numpy.typing as npt

from appliance.phantom import anatomy as a
from appliance.phantom.field import Field
from appliance.phantom.nodules import Patch
from appliance.phantom.raster import Array, Grid, between, over, ramp

Bytes = npt.NDArray[np.uint8]

_WALL: Final = ("body", "cage", "order", "angle")
"""Coarse fields that move with the chest wall."""
_STAY: Final = ("soft",)


@dataclass(frozen=True, slots=True)
class _Slice:
    """One slice while it is painted: the image, its place in reference millimetres (height) and
    patient millimetres (x [1, n], y [n, 1], z [1]), the edge width, the coarse fields brought to
    full size by name, a slow unevenness that all tissues share, and how much denser a breath has
    made the lung (None: there was none)."""

    image: Array
    body: a.Anatomy
    x: Array
    y: Array
    z: Array
    width: float
    full: Callable[[str], Array]
    texture: Array
    pressed: Array | None

    @property
    def height(self) -> float:
        return float(self.z[0]) / self.body.scale

    def over(self, field: Array, hu: float | Array, width: float | None = None) -> None:
        """Paint what lies where `field` is positive."""
        over(self.image, field, hu, width or self.width)

    def bone(self, field: Array, cortex_mm: float) -> None:
        """Paint a shell of cortical bone around spongiosa."""
        if float(field.max()) >= -self.width:
            self.over(field, a.CORTEX)
            self.over(field - np.float32(cortex_mm), a.SPONGIOSA)


def slices(
    body: a.Anatomy,
    grid: Grid,
    trees: tuple[Bytes, Bytes],
    patches: Sequence[Patch],
    texture: np.random.Generator,
    grain: np.random.Generator,
    psf_mm: float,
    field: Field | None = None,
) -> Iterator[tuple[Array, Array]]:
    """Noise-free fine slices from the feet up, each with the depth below the skin (mm).

    `trees` are the drawn vessels and the drawn lumens of the bronchi, [z, y, x], 0..255, already
    where the field has moved them. `psf_mm` is the standard deviation of the point spread.
    """
    sy, n = grid.step_mm[1], grid.rows
    psf = max(psf_mm / sy, 0.25)
    coarse, first, step = _coarse(body, grid, texture, field)
    px, py, pz = grid.axis(2), grid.axis(1), grid.axis(0)
    for k in range(grid.slices):
        at = (float(pz[k]) - first) / step
        lower = min(int(at), len(coarse["body"]) - 2)
        part = np.float32(at - lower)

        def full(name: str, lower: int = lower, part: np.float32 = part) -> Array:
            flat = coarse[name][lower] * (1 - part) + coarse[name][lower + 1] * part
            grown: Array = cv2.resize(flat, (n, n), interpolation=cv2.INTER_LINEAR)
            return grown

        s = _Slice(
            np.full((n, n), a.AIR, np.float32),
            body,
            px[None, :],
            py[:, None],
            pz[k : k + 1],
            max(0.8, sy),
            full,
            full("texture"),
            None if field is None else full("pressed"),
        )
        skin = full("body")
        _table(s)
        _chest_wall(s, skin)
        _organs(s)
        _lungs(s, grain, max(0.8 / sy, 0.3))
        _tubes(s, trees[0][k], trees[1][k])
        for patch in patches:
            _stamp(s.image, patch, k)
        _spine(s)
        blurred: Array = cv2.GaussianBlur(s.image, (0, 0), psf)
        yield blurred, skin


def _coarse(
    body: a.Anatomy, grid: Grid, rng: np.random.Generator, field: Field | None
) -> tuple[dict[str, Array], float, float]:
    """All fields on a coarse grid that covers the same square, with its first z and step in mm."""
    sy = grid.step_mm[1]
    side = grid.rows * sy
    small = max(16, round(side / max(2.4, 1.7 * sy)))
    cell = side / small
    step = max(3.0, 1.5 * sy)
    fine_z = grid.axis(0)
    zs = np.arange(float(fine_z[0]), float(fine_z[-1]) + step, step, dtype=np.float32)
    line = np.arange(small) * cell + (cell - sy) / 2
    x = (line + grid.origin[0]).astype(np.float32)[None, None, :]
    y = (line + grid.origin[1]).astype(np.float32)[None, :, None]
    z = zs[:, None, None]
    fields = body.lungs(x, y, z)
    del fields["wall"]
    fields["body"] = body.body(x, y, z)
    fields["cage"] = body.cage(x, y, z)
    fields["order"], fields["angle"] = body.rib_order(x, y, z)
    fields["oblique"], fields["flat"] = body.fissures(x, y, z)
    fields["soft"] = body.spine(x, y, z)["soft"]
    white = rng.standard_normal((len(zs), small, small), dtype=np.float32)
    slow = np.stack([cv2.GaussianBlur(layer, (0, 0), 4.5 / cell) for layer in white])
    fields["texture"] = slow / np.float32(max(float(slow.std()), 1e-6))
    all_of = {k: np.broadcast_to(f, white.shape) for k, f in fields.items()}
    if field is not None:
        all_of = _moved(all_of, (z, y, x), field)
    return all_of, float(zs[0]), step


def _moved(fields: dict[str, Array], at: a.Place, field: Field) -> dict[str, Array]:
    """Coarse fields [z, y, x] at (z, y, x) as the image of a field shows them, and `pressed`: how
    much denser it has made the lung."""
    axes = [axis.ravel().astype(np.float64) for axis in at]
    z, y, x = np.meshgrid(*axes, indexing="ij")
    points = np.stack([x.ravel(), y.ravel(), z.ravel()], axis=1)
    low, step = [axis[0] for axis in axes], [axis[1] - axis[0] for axis in axes]

    def drawn_from(places: npt.NDArray[np.float64], names: Sequence[str]) -> dict[str, Array]:
        index = ((places[:, ::-1] - low) / step).reshape(*z.shape, 3)
        return dict(zip(names, between([fields[name] for name in names], index), strict=True))

    inner = [name for name in fields if name not in (*_WALL, *_STAY)]
    out = drawn_from(field.to_person(points), inner)
    out.update(drawn_from(field.wall_to_person(points), _WALL))
    out.update({name: fields[name] for name in _STAY})
    # the lung ends at the chest wall and at the spine, which do not move as it does
    out["lungs"] = np.minimum(np.minimum(out["lungs"], out["cage"]), -out["soft"])
    out["pressed"] = field.pressed(points).reshape(z.shape).astype(np.float32)
    return out


def _table(s: _Slice) -> None:
    """The curved top of the table, a thin shell over foam."""
    image, x, y, width = s.image, s.x, s.y, s.width
    top = np.float32(139) - x * x * np.float32(1 / 1050)
    image += ramp(np.float32(0.7) - np.abs(y - top), width) * np.float32(a.TABLE - a.AIR)
    under = np.float32(166) - x * x * np.float32(1 / 700)
    image += ramp(np.float32(0.8) - np.abs(y - under), width) * np.float32(a.TABLE - a.AIR)
    image += ramp(np.minimum(y - top, under - y), width) * np.float32(45)


def _chest_wall(s: _Slice, skin: Array) -> None:
    """Skin, fat, muscle layers, ribs with cartilage, sternum, scapulae, clavicles."""
    y, texture, height = s.y, s.texture, s.height
    s.over(skin, a.SKIN)
    s.over(skin - np.float32(1.8), a.FAT + 6 * texture)
    out = -s.full("cage")  # depth outside the cage
    deep = skin - np.float32(9)  # below the fat of the skin
    layer = np.minimum(out + np.float32(2), np.float32(12.5) - out)
    side = np.abs(s.x)
    # girdle: chest muscles in front, shoulder blade and broad muscles at the back
    limit = np.float32(34 + max(0.0, height))
    girdle = np.minimum(np.minimum(out - np.float32(13.5), deep - np.float32(4)), limit - out)
    front = np.minimum(np.float32(-30) - y + np.float32(0.3) * side, side - np.float32(14))
    front = np.minimum(front, np.float32((height + 62) * 0.5))
    back = np.minimum(y + np.float32(42), side - np.float32(52))
    back = np.minimum(back, np.float32((height + 150) * 0.4))
    # above, the muscles of neck and raised shoulders fill all
    above = np.float32(height - 24) - np.float32(0.7) * (side - np.float32(125))
    girdle = np.minimum(girdle, np.maximum(np.maximum(front, back), above))
    gutter = np.minimum(np.minimum(deep, y - np.float32(66)), np.float32(58) - side)
    gutter = np.minimum(gutter, np.float32(6) + side - 4)
    for field in (layer, girdle, gutter):
        s.over(np.minimum(field, deep), a.MUSCLE + 7 * texture, s.width * 1.6)
    # fat between the muscle layers
    seam = np.float32(1.1) - np.abs(out - np.float32(23) - 2 * texture)
    strength = ramp(np.minimum(seam, deep - 5), s.width) * np.float32(0.8)
    s.image[...] += strength * (np.float32(-60) - s.image)
    _ribs(s, out)
    _plates(s, out, deep)


def _ribs(s: _Slice, out: Array) -> None:
    """Twelve pairs as ellipses round the centre lines; in front they turn into cartilage."""
    angle, order = s.full("angle"), s.full("order")
    number = np.rint(order)
    along = (order - number) * np.float32(a.RIB_PITCH * 0.86 * s.body.scale)
    bone = np.float32(1) - np.sqrt(
        ((out - np.float32(5.6)) / np.float32(3.9)) ** 2 + (along / np.float32(6.6)) ** 2
    )
    bone *= np.float32(4.4)
    present = (number >= 1) & (number <= 12) & (angle > 0.28)
    present &= ~((number >= 11) & (angle > 1.75))
    bone = np.where(present, bone, np.float32(-9))
    ossified = np.float32(26) * (np.float32(2.42) - angle)
    costal = np.minimum(bone, -ossified)
    s.over(np.where(number <= 9, costal, np.float32(-9)), a.CARTILAGE)
    s.bone(np.minimum(bone, ossified), 1.3)


def _plates(s: _Slice, out: Array, deep: Array) -> None:
    """Sternum, scapulae, clavicles; `out` is the depth outside the cage."""
    y, height, side = s.y, s.height, np.abs(s.x)
    angle = s.full("angle")
    if -115 < height < 52:
        half = 24.0 if height > 12 else 15.0 + 4.0 * float(np.cos(height / 9.0))
        breadth, thickness = np.full(1, half, np.float32), np.full(1, 5.8, np.float32)
        plate = a.section(s.x, out - np.float32(7), breadth, thickness, 2.6)
        plate = np.minimum(
            np.where(y < 0, plate, np.float32(-9)), np.float32(min(height + 115, 52 - height))
        )
        s.bone(plate, 1.2)
    if -72 < height < 96:
        # a thin blade that stands off the ribs, thicker at its outer border
        outer = (angle - np.float32(1.02 + 0.0022 * (height + 72))) * np.float32(120)
        border = np.float32(0.5 * (1 - np.cos(np.clip((height + 72) / 60, 0, 1) * np.pi)))
        reach = np.minimum(outer + np.float32(62) * border, np.float32(4) - outer)
        thick = np.float32(1.9) + np.float32(2.6) * np.exp(-(((outer - 2) / 9) ** 2))
        blade = np.minimum(thick - np.abs(out - np.float32(20) - np.float32(0.03) * outer), reach)
        s.bone(np.minimum(blade, deep), 1.1)
    if height > 22:
        p, q = (13.0, -66.0, 44.0), (128.0, -18.0, 98.0)
        level = np.full((1, 1), height, np.float32)
        s.bone(a.capsule((side, y, level), p, q, 7.5, 6.0), 1.8)


def _organs(s: _Slice) -> None:
    """What lies inside the rib cage and is not lung: fat first, then organs from the back."""
    x, y, height, texture, full = s.x, s.y, s.height, s.texture, s.full
    inside = full("cage") - np.float32(1)
    s.over(inside, a.FAT + 8 + 6 * texture)
    if height < -60:
        below = -full("diaphragm")
        belly = np.minimum(below, inside)
        s.over(belly, a.MUSCLE)  # the diaphragm itself, 3 mm
        belly = belly - np.float32(3)
        s.over(belly, a.FAT + 6 * texture)
        # liver: the right half, and in front across the midline
        edge = np.float32(18) - np.float32(0.75) * y - x + np.float32(0.25 * (height + 110))
        liver = np.minimum(belly + np.float32(1.5), edge * np.float32(0.8))
        s.over(liver, a.LIVER + 5 * texture)
        spleen = 26 - np.sqrt(
            ((x - 92) / 1.1) ** 2 + ((y - 52) / 1.25) ** 2 + np.float32(((height + 168) / 1.5) ** 2)
        )
        s.over(np.minimum(spleen, belly - 1), a.SPLEEN + 4 * texture)
        stomach = 38 - np.sqrt(
            ((x - 70) / 1.05) ** 2
            + ((y + 14) / 1.25) ** 2
            + np.float32(((height + 158) / 1.1) ** 2)
        )
        stomach = np.minimum(stomach, belly - 1)
        s.over(stomach, a.STOMACH + 4 * texture)
        gas = np.minimum(stomach - np.float32(4), np.float32(-30) - y)
        s.over(gas, -960.0)
    s.over(full("soft"), a.MUSCLE + 5 * texture)
    s.over(full("oesophagus"), 38.0)
    heart = full("heart")
    s.over(heart, a.HEART + 4 * texture)
    s.over(full("vessels"), a.BLOOD + 2 * texture)


def _lungs(s: _Slice, rng: np.random.Generator, grain: float) -> None:
    """Parenchyma: denser towards the back (gravity), a slow unevenness, a fine grain of what is
    too small to be drawn, and the fissures as faint thin lines."""
    x, y, texture, lungs = s.x, s.y, s.texture, s.full("lungs")
    fine = cv2.GaussianBlur(rng.standard_normal(lungs.shape, dtype=np.float32), (0, 0), grain)
    fine *= np.float32(2 * np.sqrt(np.pi) * max(grain, 0.3))
    air = np.float32(a.LUNG) + np.float32(0.16) * y + 9 * texture + 8 * fine
    oblique, flat = s.full("oblique"), s.full("flat")
    line = np.exp(-((oblique / np.float32(0.5)) ** 2))
    right = (x < 0) & (oblique > 0)
    line = np.maximum(line, np.where(right, np.exp(-((flat / np.float32(0.5)) ** 2)), 0))
    if s.pressed is not None:
        air = np.float32(a.AIR) + (air - np.float32(a.AIR)) * s.pressed
    air += line * np.float32(220) * np.clip(np.float32(0.75) + np.float32(0.3) * texture, 0.1, 1.1)
    s.over(lungs, air)


def _tubes(s: _Slice, blood: Bytes, lumen: Bytes) -> None:
    """Vessels, then the hollow bronchi, then the central airways with their wall."""
    image = s.image
    # a branch that cuts the corner through a dome is not drawn there
    above = ramp(s.full("diaphragm"), s.width) * np.float32(1 / 255)
    drawn = blood.astype(np.float32) * above
    image += drawn * np.maximum(np.float32(a.BLOOD) - image, 0)
    hollow = lumen.astype(np.float32) * above * np.float32(0.97)
    image += hollow * (np.float32(a.AIR) - image)
    central = s.full("airways")
    wall = ramp(central + np.float32(1.5), s.width) * (image < -300)
    image += wall * (np.float32(30) - image)
    s.over(central, a.AIR)


def _stamp(image: Array, patch: Patch, k: int) -> None:
    z, y, x = patch.start
    if not 0 <= k - z < len(patch.occupancy):
        return
    occupancy = patch.occupancy[k - z]
    box = image[y : y + occupancy.shape[0], x : x + occupancy.shape[1]]
    lift = np.float32(patch.hu) - box
    # a nodule never thins what is denser than it (chest wall, vessel)
    box += occupancy * np.maximum(lift, 0)


def _spine(s: _Slice) -> None:
    """Vertebrae with end plates, discs, canal and processes, in the box around them."""
    i = np.flatnonzero(np.abs(s.x[0]) < 52)
    j = np.flatnonzero((s.y[:, 0] > 15) & (s.y[:, 0] < 125))
    box = slice(int(j[0]), int(j[-1]) + 1), slice(int(i[0]), int(i[-1]) + 1)
    part = replace(s, image=s.image[box], x=s.x[:, box[1]], y=s.y[box[0]])
    fields = s.body.spine(part.x, part.y, s.z[:, None])
    level = np.broadcast_to(fields["level"], part.image.shape)
    part.over(fields["body"], a.DISC)
    part.bone(np.minimum(fields["body"], level), 1.0)
    part.bone(fields["arch"], 1.2)
    part.over(fields["canal"], a.CORD)
