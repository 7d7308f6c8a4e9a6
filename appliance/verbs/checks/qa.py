"""The check of the water phantom: when one was measured last, and what it said.

It never fails: a phantom that is overdue or off keeps no exam from being analysed.
"""

from __future__ import annotations

import time

from appliance.verbs.checks.check import Check, Device

NAME = "phantom"
DAY_S = 86400.0


def phantom(device: Device) -> Check:
    """The last phantom, and whether the next one is overdue."""
    from appliance.store import qa  # noqa: PLC0415
    from appliance.watching.qa import WHAT_TO_DO  # noqa: PLC0415
    from appliance.web.text import say  # noqa: PLC0415

    every, wanted = qa.every(device.settings.state), device.settings.qa.every_days
    remind = "Scan the water phantom as each day, and send it as an exam." if wanted else ""
    if not every:
        return Check(name=NAME, ok=True, text="no water phantom was measured yet", remedy=remind)
    last = every[-1]
    days = max(0.0, (time.time() - last.at.timestamp()) / DAY_S)
    words = say.speaker(say.texts("en"))
    wrong = ", ".join(words(f"room.phantom.{code.value}") for code in last.codes)
    verdict = last.verdict.replace("_", " ")
    text = f"the last one {days:.0f} days ago: {verdict}{f' ({wrong})' if wrong else ''}"
    remedies = [WHAT_TO_DO[code] for code in last.codes]
    if wanted is not None and days > wanted:
        text += f"; one every {wanted:g} days is asked for ([qa] every_days): overdue"
        remedies.append(remind)
    return Check(name=NAME, ok=True, text=text, remedy=" ".join(remedies))
