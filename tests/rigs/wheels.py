"""Tiny wheels, and the requirements that ask for them."""

from __future__ import annotations

import base64
import ensurepip
import hashlib
import io
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType

import pytest


def wheel(
    name: str,
    version: str = "1.0.0",
    tag: str = "py3-none-any",
    text: str = "",
    *,
    more: Mapping[str, str] = MappingProxyType({}),
    record: Callable[[str], str] = str,
) -> tuple[str, bytes]:
    """File name and bytes of a wheel (PEP 427) with one module; `text` makes it another.

    more: files beside it. record: what becomes of a right RECORD; a wheel that lies has another.
    """
    info = f"{name}-{version}.dist-info"
    files = {
        f"{name}.py": f"SAYS = {text!r}\n",
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n",
        f"{info}/WHEEL": f"Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: {tag}\n",
    }
    files |= more
    lines = ""
    for path, content in files.items():
        seen = base64.urlsafe_b64encode(hashlib.sha256(content.encode()).digest()).rstrip(b"=")
        lines += f"{path},sha256={seen.decode()},{len(content)}\n"
    files[f"{info}/RECORD"] = record(f"{lines}{info}/RECORD,,\n")
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w") as archive:
        for path, content in files.items():
            archive.writestr(zipfile.ZipInfo(path, (1980, 1, 1, 0, 0, 0)), content)
    return f"{name}-{version}-{tag}.whl", data.getvalue()


def requirements(wheels: Mapping[str, bytes]) -> bytes:
    """What pip reads with --require-hashes."""
    lines: dict[str, list[str]] = {}
    for name, data in wheels.items():
        library, version = name.split("-")[:2]
        lines.setdefault(f"{library}=={version}", []).append(hashlib.sha256(data).hexdigest())
    return "".join(
        " \\\n    ".join([head, *(f"--hash=sha256:{one}" for one in hashes)]) + "\n"
        for head, hashes in sorted(lines.items())
    ).encode()


def pip_wheel() -> Path:
    """Pip's own wheel, which Python brings along; Debian keeps it in another place."""
    bundled = Path(ensurepip.__file__).with_name("_bundled")
    for folder in (bundled, Path("/usr/share/python-wheels")):
        if found := sorted(folder.glob("pip-*.whl")):
            return found[-1]
    pytest.skip("there is no wheel of pip (apt install python3-pip-whl)")
