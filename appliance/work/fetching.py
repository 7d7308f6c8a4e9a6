"""Earlier exams that an archive may have are asked for, where `[[priors.query]]` names one.

Rules
- Once a study: when a bundle accepted the first image of an exam that may be compared, so that the
  earlier ones come while its slices do. A study of earlier exams asks for none.
- Of an id that stands for nobody, cannot be read, or is a pattern to archives nothing is asked
  (appliance/prior/patient.py): what came would be somebody else's.
- What goes wrong here is logged, costs the earlier exams alone, and says nothing of the patient.
- Where nobody is asked, what lay there from before goes at the start.
"""

from __future__ import annotations

import logging
from collections import deque
from typing import Final

from appliance.errors import ScansideError
from appliance.prior import patient
from appliance.settings import Settings
from appliance.store import fetching
from appliance.store.fetching import Wanted
from appliance.work.followed import Followed
from appliance.work.opening import Unopened

log = logging.getLogger("scanside.work")

REMEMBERED: Final = 1000
"""Studies that were asked about: far more than are followed at a time."""


class Fetching:
    """The requests of one `work`."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._asked: deque[str] = deque(maxlen=REMEMBERED)
        if not settings.priors.query:
            try:
                fetching.forget(settings.state)
            except ScansideError as e:
                log.warning("requests for earlier exams stay: %s", e.one_line())

    def begun(self, followed: Followed, data: bytes | Unopened) -> None:
        """This image of a series was looked at for a bundle."""
        priors = self._settings.priors
        study = followed.key.study
        if not priors.query or followed.silent or not followed.is_compared or study in self._asked:
            return
        if isinstance(data, Unopened):
            return
        self._asked.append(study)
        try:
            said = patient.said(data)
            if (
                said.patient_id is None
                or not said.readable
                or patient.is_dummy(said.patient_id, priors.dummies)
            ):
                log.info("no earlier exams are asked for: the exam names nobody")
                return
            wanted = Wanted(patient_id=said.patient_id, issuer=said.issuer or "", study=study)
            fetching.ask(self._settings.state, wanted)
        except (ScansideError, OSError, ValueError) as e:
            log.warning("no earlier exams are asked for: %s", type(e).__name__)
