"""One patient's earlier exams in one archive: found, chosen and moved, on one association.

Rules
- Archives ignore keys that they do not know, and some send another patient than was asked for
  (PS3.4 C.2.2.1.3 lets optional keys be). So each answer must name the very id that was asked for,
  the same issuer where both name one, and a UID; what does not is dropped.
- An id with a sign that archives take for a pattern (* ? \\, PS3.4 C.2.2.2.4) is asked of nobody.
- Where an archive does not count the images of a series (Number of Series Related Instances is
  optional), they are counted by C-FIND of its images.
- What the spool has got already is not moved again.
- The archive stores to our own listener, which judges what comes as it does of any sender. What is
  said here of a move is what the archive says.
- No text names a patient, an exam or a date.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Literal

from pydicom.dataset import Dataset

from appliance.dicom import retrieve, statuses
from appliance.dicom.requestor import Peer
from appliance.dicom.retrieve import Retrieving
from appliance.fetch import choice
from appliance.fetch.choice import Series, Study
from appliance.settings import Query, Settings
from appliance.store.fetching import Wanted

STUDIES_MOST: Final = 500
SERIES_MOST: Final = 500
COUNTED_MOST: Final = 20_000
"""Answers at most: no patient has as many, and an archive that ignores keys has more."""
_MODALITY, _MODALITIES, _STUDY_DATE = 0x00080060, 0x00080061, 0x00080020
_PATIENT_ID, _ISSUER, _STUDY, _SERIES = 0x00100020, 0x00100021, 0x0020000D, 0x0020000E
_IMAGE, _COUNT = 0x00080018, 0x00201209
_UID = re.compile(r"[0-9.]{1,64}")
_PATTERN = re.compile(r"[*?\\]")

Code = Literal["moved", "none", "failed"]


class Refused(Exception):
    """The archive answered, and does not do what was asked."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """How it ended. found: series that were wanted; moved: of these, that came or were here."""

    code: Code
    found: int = 0
    moved: int = 0
    text: str = ""
    """Why it failed; without anything of the patient."""


def peer(query: Query, settings: Settings) -> Peer:
    """The archive of these settings."""
    called, host, port = query.peer
    ours = query.ae_title or settings.dicom.ae_title
    return Peer(host, port, called, ours, query.tls, query.certificate)


def destination(query: Query, settings: Settings) -> str:
    """The AE title to which it is to store."""
    return query.move_to or settings.dicom.ae_title


def is_pattern(patient_id: str) -> bool:
    """Whether an archive would take this id for more than one."""
    return _PATTERN.search(patient_id) is not None


@dataclass(frozen=True, slots=True)
class Asked:
    """One request to one archive, whose association is open."""

    link: Retrieving
    wanted: Wanted
    issuer: str
    """What counts as issuer where none is named (`[priors] issuer`)."""
    to: str
    """AE title of our listener, as the archive knows it."""
    end: float
    """Tick at which its time is over."""
    has: Callable[[Series], bool]
    """Whether the spool has that series already."""

    def served(self) -> Outcome:
        """Look, choose and have it sent. PeerAway."""
        found = moved = 0
        try:
            series = choice.chosen(choice.earlier(self._studies(), self.wanted.study), self._best)
            found = len(series)
            for one in series:
                self._move(one)
                moved += 1
        except Refused as e:
            return Outcome("failed", found, moved, str(e))
        return Outcome("moved" if found else "none", found, moved)

    def _studies(self) -> list[Study]:
        keys = {
            "QueryRetrieveLevel": "STUDY",
            "PatientID": self.wanted.patient_id,
            "IssuerOfPatientID": "",
            "ModalitiesInStudy": "CT",
            "StudyDate": "",
            "StudyInstanceUID": "",
        }
        studies = []
        for one in self._find(keys, STUDIES_MOST):
            uid, modalities = retrieve.text(one, _STUDY), retrieve.text(one, _MODALITIES)
            if self._is_of_patient(one) and _UID.fullmatch(uid):
                if modalities and "CT" not in modalities.split("\\"):
                    continue
                date = retrieve.text(one, _STUDY_DATE)
                studies.append(Study(uid, date if re.fullmatch(r"\d{8}", date) else ""))
        return studies

    def _is_of_patient(self, answer: Dataset) -> bool:
        theirs = retrieve.text(answer, _ISSUER) or self.issuer
        ours = self.wanted.issuer or self.issuer
        same_issuer = not (theirs and ours) or theirs == ours
        return retrieve.text(answer, _PATIENT_ID) == self.wanted.patient_id and same_issuer

    def _best(self, study: Study) -> Series | None:
        keys = {
            "QueryRetrieveLevel": "SERIES",
            "StudyInstanceUID": study.uid,
            "SeriesInstanceUID": "",
            "Modality": "CT",
            "NumberOfSeriesRelatedInstances": "",
        }
        series = []
        for one in self._find(keys, SERIES_MOST):
            uid = retrieve.text(one, _SERIES)
            if not self._is_in(one, study.uid) or _UID.fullmatch(uid) is None:
                continue
            if retrieve.text(one, _MODALITY) != "CT":
                continue
            count = retrieve.text(one, _COUNT)
            images = int(count) if count.isdecimal() else self._count(study.uid, uid)
            series.append(Series(study.uid, uid, images))
        return choice.best(series)

    def _is_in(self, answer: Dataset, study: str) -> bool:
        """Whether an answer is of this study: it need not repeat the key (PS3.4 C.4.1.1.3.2)."""
        return retrieve.text(answer, _STUDY) in ("", study)

    def _count(self, study: str, series: str) -> int:
        """How many images a series has."""
        keys = {
            "QueryRetrieveLevel": "IMAGE",
            "StudyInstanceUID": study,
            "SeriesInstanceUID": series,
            "SOPInstanceUID": "",
        }
        found = self._find(keys, COUNTED_MOST)
        named = {retrieve.text(one, _IMAGE) for one in found if self._is_in(one, study)}
        return len(named - {""})

    def _find(self, keys: retrieve.Keys, most: int) -> tuple[Dataset, ...]:
        found = self.link.find(keys, end=self.end, most=most)
        level = keys["QueryRetrieveLevel"].lower()
        if found.cut:
            raise Refused(f"more than {most} answers of level {level}: it seems to ignore keys")
        if found.status == statuses.NO_CONTEXT:
            raise Refused("it does not accept Study Root C-FIND")
        if found.status:
            raise Refused(f"C-FIND of level {level} ends with 0x{found.status:04X}")
        return found.answers

    def _move(self, series: Series) -> None:
        if self.has(series):
            return
        keys = {
            "QueryRetrieveLevel": "SERIES",
            "StudyInstanceUID": series.study,
            "SeriesInstanceUID": series.uid,
        }
        done = self.link.move(keys, self.to, end=self.end)
        if done.status == statuses.NO_CONTEXT:
            raise Refused("it does not accept Study Root C-MOVE")
        if done.status == retrieve.NO_DESTINATION:
            raise Refused(f"it does not know the AE title {self.to}, to which it is to store")
        if done.status or done.failed:
            raise Refused(
                f"C-MOVE ends with 0x{done.status:04X}: {done.completed} images stored, "
                f"{done.failed} not"
            )
