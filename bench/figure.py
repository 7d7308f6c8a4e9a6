"""One measured figure beside its aim: what has no peer to be compared with."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Figure:
    """A value with its unit. `aim`: at most that much; None where there is none."""

    what: str
    value: float
    unit: str
    aim: float | None = None
    parts: Mapping[str, float] = field(default_factory=dict)
    """What the value is made of, in the same unit."""

    @property
    def met(self) -> bool | None:
        return None if self.aim is None else self.value <= self.aim

    def one_line(self) -> str:
        """As printed."""
        judged = {None: "      ", True: "met   ", False: "missed"}[self.met]
        aim = "" if self.aim is None else f" (aim {self.aim:g})"
        made = ", ".join(f"{name} {value:.3g}" for name, value in self.parts.items())
        return f"{judged}  {self.what}: {self.value:.3g} {self.unit}{aim}" + (
            f": {made}" if made else ""
        )
