"""How a series begins: which bundles it is for.

Rules
- The first image, in order of arrival, that any bundle accepts chooses the bundles. A localizer or
  a picture of a screen may come first and be accepted by none (series/foreign.py): what came before
  the image that chose is then read again for the bundles.
- Until an image has chosen, the series is for no bundle, and the reasons are those of its first.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable

from appliance.errors import ScansideError
from appliance.lines import choose
from appliance.records import Header
from appliance.series import pixels
from appliance.work.followed import Followed
from appliance.work.opening import Unopened

log = logging.getLogger("scanside.work")


def begin(
    followed: Followed, data: bytes | Unopened, earlier: Iterable[bytes | Unopened | None]
) -> bool:
    """One instance of a series that no image chose a bundle for yet -> whether it is its first.

    `earlier`: the instances before, read when they are needed; None for what was deleted."""
    header: Header | None = None
    try:
        header = None if isinstance(data, Unopened) else pixels.header(data)
    except ScansideError as e:
        log.info("series %s: %s", followed.uid, e.one_line())  # the fold keeps the reason
    chosen = choose.bundles_for(header, followed.bundles)
    if followed.fold is None:
        followed.begin(header, chosen)
        return True
    if header is not None and chosen.bundles:
        followed.begin_again(header, chosen, (one for one in earlier if one is not None))
    return False
