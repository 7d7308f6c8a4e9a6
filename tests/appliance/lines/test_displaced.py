"""A network that is asked twice: the field of both answers leads where both lead together."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from appliance.bundle.exams import Compare
from appliance.bundle.heads import DisplaceHead
from appliance.lines.displaced import by_network
from appliance.records import Tensor


class Shift:
    """A backend whose network finds by how many cells along x a ball was moved, at most one."""

    def __init__(self) -> None:
        self.asked = 0

    def infer(self, role: str, image: Mapping[str, Tensor]) -> Mapping[str, NDArray[np.float32]]:
        assert role == "displace"
        self.asked += 1
        middle = {name: _middle(one.data[0, 0]) for name, one in image.items()}
        step = np.clip(middle["prior"] - middle["current"], -1, 1) * 8
        field = np.zeros((1, 3, *image["prior"].data.shape[2:]), np.float32)
        field[0, 2] = step
        return {"field": field}


def _middle(image: NDArray[np.float32]) -> float:
    return float((image.sum((0, 1)) * np.arange(image.shape[2])).sum() / image.sum())


class Bundle:
    """What a manifest says of its line."""

    name = "pair"

    def __init__(self, passes: int) -> None:
        self._line = Compare(displace=DisplaceHead(output="field", passes=passes))

    def line_of(self, _: type[Compare]) -> Compare:
        return self._line


def ball(x: float) -> NDArray[np.float32]:
    z, y, at = np.indices((8, 8, 24))
    return np.exp(-((z - 4) ** 2 + (y - 4) ** 2 + (at - x) ** 2) / 8).astype(np.float32)


def test_each_pass_adds_what_the_one_before_left() -> None:
    found: list[float] = []
    for passes in (1, 2, 3):
        backend: Any = Shift()
        bundle: Any = Bundle(passes)
        field = by_network(bundle, backend)(ball(14), ball(12))
        assert backend.asked == passes
        assert field.shape == (3, 8, 8, 24)
        found.append(float(field[2, 4, 4, 12]))
    assert found[0] == 8.0, "one cell of two"
    assert abs(found[1] - 16.0) < 0.8
    assert abs(found[2] - 16.0) < 0.8
