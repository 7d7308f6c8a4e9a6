"""A stand-in until the measured prior is here: spreads alone."""

from __future__ import annotations

from typing import Final

from appliance.watching.alarm import Statistic
from appliance.watching.row import Prior

SHIPPED: Final = Prior(spreads={Statistic.NOISE: 0.165, Statistic.TISSUE: 5.7, Statistic.AIR: 11.0})
