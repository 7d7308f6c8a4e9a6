"""What a line says of itself tells whether its findings are followed, never its kind."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from appliance.lines.followed import follows


@pytest.mark.parametrize(
    ("slices", "finds", "expected"),
    [
        (True, ("nodule", "mass"), True),
        (True, ("mass",), False),
        (False, ("pneumonia",), False),
        (False, (), False),
    ],
)
def test_nodules_in_slices_are_followed(
    slices: bool, finds: tuple[str, ...], expected: bool
) -> None:
    manifest: Any = SimpleNamespace(line=SimpleNamespace(sees_slices=slices, finds=finds))
    assert follows(manifest) is expected
