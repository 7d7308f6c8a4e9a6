"""A wheel of this appliance -> the same under another version, whole or broken on purpose.

Only for the demo and the tests of updates: a release is made of a checkout (compile.wheel).
"""

from __future__ import annotations

import base64
import hashlib
import io
import re
import zipfile
from collections.abc import Mapping

_HEAD = "# Broken on purpose, for the demo and the tests of updates.\n"
_HANGS = """import time


def main(settings, ready=None):
    ready()
    while True:
        time.sleep(1)
"""
FAULTS: Mapping[str, tuple[str, str]] = {
    "crash": ("appliance/work/stage.py", "raise SystemExit('broken on purpose')\n"),
    "hang": ("appliance/retain/stage.py", _HANGS),
    "import": ("appliance/errors.py", "import a_module_that_nobody_has\n"),
}
"""Kind of fault -> the file, and what stands there instead: a stage that ends at once, one that
serves and never goes on, and an appliance that cannot be imported at all."""


def of(name: str, data: bytes, version: str, fault: str | None = None) -> tuple[str, bytes]:
    """File name and bytes of the wheel `data`, called `name`, as `version`. The same bytes for the
    same arguments (PyPA: binary distribution format; recording installed projects)."""
    before = name.split("-")[1]
    with zipfile.ZipFile(io.BytesIO(data)) as held:
        files = {one.filename: held.read(one) for one in held.infolist()}
    old, new = f"scanside-{before}.dist-info/", f"scanside-{version}.dist-info/"
    files = {path.replace(old, new): content for path, content in files.items()}
    meta = f"{new}METADATA"
    files[meta] = re.sub(
        rb"(?m)^Version: .*$", f"Version: {version}".encode(), files[meta], count=1
    )
    if fault is not None:
        path, text = FAULTS[fault]
        if path not in files:
            raise KeyError(path)
        files[path] = (_HEAD + text).encode()
    record = f"{new}RECORD"
    del files[record]
    lines = [f"{path},sha256={_digest(one)},{len(one)}\n" for path, one in sorted(files.items())]
    files[record] = ("".join(lines) + f"{record},,\n").encode()
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w", zipfile.ZIP_DEFLATED) as archive:
        for path, content in sorted(files.items()):
            entry = zipfile.ZipInfo(path, (1980, 1, 1, 0, 0, 0))
            entry.external_attr = 0o644 << 16
            entry.compress_type = zipfile.ZIP_DEFLATED
            archive.writestr(entry, content)
    return name.replace(before, version, 1), made.getvalue()


def _digest(content: bytes) -> str:
    """As a RECORD has it: URL-safe base64 of SHA-256, without padding."""
    return base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=").decode()
