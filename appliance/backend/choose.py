"""Which CPU library runs: a decision over what is installed, made without loading any of it.

Whether the GPU runs instead is for runtime/gpu.py to say: that needs a driver, an engine and its
golden cases. The CPU library is what serves until then, and whenever the GPU does not.

Rules. A backend named in the settings is used or is an error, never silently replaced: precision
and speed would change unseen. `auto` takes the first of LIBRARIES that is installed: OpenVINO
before onnxruntime, whose INT8 3D convolutions bring nothing on a CPU (docs/decisions).
"""

from __future__ import annotations

from collections.abc import Callable
from importlib.util import find_spec
from typing import Literal

from appliance.errors import BackendUnavailable

Name = Literal["openvino", "onnxruntime"]
LIBRARIES: tuple[Name, ...] = ("openvino", "onnxruntime")
INSTALL: dict[Name, str] = {
    "openvino": "pip install 'scanside[openvino]'",
    "onnxruntime": "pip install onnxruntime",
}


def installed(name: str) -> bool:
    """Whether a library could be imported, without importing it."""
    return find_spec(name) is not None


def choose(
    preference: Literal["auto", "gpu", "openvino", "onnxruntime"] = "auto",
    probe: Callable[[str], bool] = installed,
) -> Name:
    """The CPU backend to open. BackendUnavailable says what to install."""
    if preference == "openvino" or preference == "onnxruntime":  # noqa: PLR1714 - mypy narrows this
        if probe(preference):
            return preference
        raise missing(preference)
    for name in LIBRARIES:
        if probe(name):
            return name
    raise BackendUnavailable(
        "no inference library is installed", remedy=f"Install one: {INSTALL['onnxruntime']}."
    )


def missing(name: Name) -> BackendUnavailable:
    """The error for one library that is not there."""
    return BackendUnavailable(
        f"the library of backend {name!r} is missing or cannot be loaded",
        remedy=f'Install it ({INSTALL[name]}), or set [work] backend = "auto".',
    )
