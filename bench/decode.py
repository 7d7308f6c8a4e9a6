"""Part-10 bytes to HU, a transfer syntax a row: ours against pydicom with its own choice and GDCM.

Ours also checks everything (pixels.py) and takes the digest; a peer parses, decodes and rescales.
"""

from __future__ import annotations

import io
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom import dcmread
from pydicom.pixels import apply_rescale, pixel_array

from appliance.phantom import instances
from appliance.phantom.chest import Phantom
from appliance.series import pixels

IMAGES = 16
EXPLICIT_LE = "1.2.840.10008.1.2.1"
ENCODED = {
    "RLE": "1.2.840.10008.1.2.5",
    "JPEG-LS": "1.2.840.10008.1.2.4.80",
    "JPEG 2000": "1.2.840.10008.1.2.4.90",
}
"""What pydicom's plugins write; JPEG Lossless is written by dcmtk's dcmcjpeg."""
DCMCJPEG = "/usr/bin/dcmcjpeg"


def comparisons(
    voxels: NDArray[np.int16],
) -> Iterator[tuple[str, str, str, Callable[[], object], Callable[[], object]]]:
    """One row a transfer syntax and peer, of the first slices of `voxels`."""
    phantom = Phantom(voxels[:IMAGES], (0.8, 0.7, 0.7), (0, 0, 0), ())
    for name, every in _encoded(phantom):
        what = f"decode {IMAGES} x 512 x 512, {name}"
        ours = partial(_ours, every)
        for peer, plugin in (("pydicom", ""), ("GDCM", "gdcm")):
            try:
                off = np.abs(_pydicom(every[:1], plugin) - _ours(every[:1])).max()
            except (RuntimeError, ValueError) as e:
                print(f"{what}: {peer} left out ({str(e).splitlines()[0]})")
                continue
            shown = what if off == 0 else f"{what} (differ by {off:g} HU)"
            yield shown, "scanside", peer, ours, partial(_pydicom, every, plugin)


def _encoded(phantom: Phantom) -> Iterator[tuple[str, list[bytes]]]:
    raw = [_written(image) for image in instances.series(phantom)]
    yield "uncompressed", raw
    for name, syntax in ENCODED.items():
        images = list(instances.series(phantom))
        for image in images:
            image.compress(syntax, generate_instance_uid=False)
        yield name, [_written(image) for image in images]
    if shutil.which(DCMCJPEG) is None:
        print("decode: JPEG Lossless left out, dcmtk is not installed (apt-get install dcmtk)")
        return
    with tempfile.TemporaryDirectory(prefix="scanside-bench-") as folder:
        coded = []
        for one in raw:
            before, after = Path(folder, "raw.dcm"), Path(folder, "coded.dcm")
            before.write_bytes(one)
            subprocess.run(
                [DCMCJPEG, "--encode-lossless-sv1", "--uid-never", str(before), str(after)],
                check=True,
            )
            coded.append(after.read_bytes())
    yield "JPEG Lossless", coded


def _written(image: Any) -> bytes:
    buffer = io.BytesIO()
    image.save_as(buffer, enforce_file_format=True)
    return buffer.getvalue()


def _ours(every: list[bytes]) -> NDArray[Any]:
    return np.stack([pixels.read(one)[0].hu for one in every])


def _pydicom(every: list[bytes], plugin: str) -> NDArray[Any]:
    found = []
    for one in every:
        image = dcmread(io.BytesIO(one))
        found.append(apply_rescale(pixel_array(image, decoding_plugin=plugin), image))
    return np.stack(found)
