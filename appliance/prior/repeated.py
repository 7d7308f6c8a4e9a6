"""How far apart two measurements of one unchanged nodule lie, as it was measured. Data only.

    python -m training.judge.growth appliance/factory/bundles/lung-nodule.scanside --pairs 40

The error is of what measures, lung-nodule 1.3.1, on implants in two CTs (R01-001 and
LIDC-IDRI-0004), each scanned twice in slices of 1 to 2.5 mm, on 2026-11-29. It holds where no
bundle of comparison says its own; a recipe of such a bundle takes its rows from here.
"""

from __future__ import annotations

from typing import Final

from appliance.prior.growth import Row

MEASURED: Final = (
    Row((4.0, 6.0), "solid", "same", 21.6, 0.47, 40),
    Row((4.0, 6.0), "part_solid", "same", 18.1, 0.53, 40),
    Row((4.0, 6.0), "ground_glass", "same", 29.7, 0.57, 40),
    Row((6.0, 10.0), "solid", "same", 14.7, 0.38, 40),
    Row((6.0, 10.0), "part_solid", "same", 13.9, 0.65, 40),
    Row((6.0, 10.0), "ground_glass", "same", 16.1, 0.52, 40),
    Row((10.0, 16.0), "solid", "same", 8.3, 0.78, 40),
    Row((10.0, 16.0), "part_solid", "same", 8.2, 0.44, 40),
    Row((10.0, 16.0), "ground_glass", "same", 7.4, 0.63, 40),
    Row((16.0, 30.0), "solid", "same", 3.4, 1.08, 40),
    Row((16.0, 30.0), "part_solid", "same", 4.3, 0.69, 40),
    Row((16.0, 30.0), "ground_glass", "same", 5.0, 0.73, 40),
    Row((4.0, 6.0), "solid", "other", 21.2, 0.67, 40),
    Row((4.0, 6.0), "part_solid", "other", 40.2, 0.87, 40),
    Row((4.0, 6.0), "ground_glass", "other", 37.8, 0.83, 40),
    Row((6.0, 10.0), "solid", "other", 13.6, 0.51, 40),
    Row((6.0, 10.0), "part_solid", "other", 19.8, 0.83, 40),
    Row((6.0, 10.0), "ground_glass", "other", 18.8, 0.84, 40),
    Row((10.0, 16.0), "solid", "other", 6.7, 0.56, 40),
    Row((10.0, 16.0), "part_solid", "other", 27.0, 1.39, 40),
    Row((10.0, 16.0), "ground_glass", "other", 10.9, 0.7, 40),
    Row((16.0, 30.0), "solid", "other", 5.0, 0.68, 40),
    Row((16.0, 30.0), "part_solid", "other", 6.4, 0.77, 40),
    Row((16.0, 30.0), "ground_glass", "other", 6.4, 1.33, 40),
)
"""mm from and below, density, kernel, SD of the volume in percent, SD of the mean axis in mm, and
how many bodies were measured twice."""
