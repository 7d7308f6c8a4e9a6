"""How a series begins: which bundles it is for.

Rules
- The first image, in order of arrival, that any bundle accepts chooses the bundles. A localizer or
  a picture of a screen may come first and be accepted by none (series/foreign.py): what came before
  the image that chose is then read again for the bundles.
- Until an image has chosen, the series is for no bundle, and the reasons are those of its first.
- Of an appliance that was recalled nothing is analysed, and of each series that is not set aside by
  name that is the reason.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable

from appliance.errors import ScansideError
from appliance.lines import choose
from appliance.lines.choose import Chosen
from appliance.reasons import Code
from appliance.records import Header
from appliance.report import Reason
from appliance.series import pixels, select
from appliance.work.followed import Followed
from appliance.work.opening import Unopened

log = logging.getLogger("scanside.work")
_RECALLED = "The release of the appliance that received it was recalled."


def begin(
    followed: Followed,
    data: bytes | Unopened,
    earlier: Iterable[bytes | Unopened | None],
    *,
    recalled: bool = False,
) -> bool:
    """One instance of a series that no image chose a bundle for yet -> whether it is its first.

    `earlier`: the instances before, read when they are needed; None for what was deleted.
    `recalled`: whether this appliance was; then no bundle is open either."""
    header: Header | None = None
    try:
        header = None if isinstance(data, Unopened) else pixels.header(data)
    except ScansideError as e:
        log.info("series %s: %s", followed.uid, e.one_line())  # the fold keeps the reason
    chosen = choose.bundles_for(header, followed.bundles)
    if recalled and header is not None and select.by_name(header) is None:
        chosen = Chosen(reasons=(Reason(code=Code.RECALLED, text=_RECALLED),))
        followed.refused = chosen.reasons
    if followed.fold is None:
        followed.begin(header, chosen)
        return True
    if header is not None and chosen.bundles:
        followed.begin_again(header, chosen, (one for one in earlier if one is not None))
    return False
