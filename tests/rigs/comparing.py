"""Exams of made-up arrays, where they are kept, and a line that pairs the nearest findings."""

from __future__ import annotations

import hashlib
import io
import pickle
import uuid
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from appliance.compare.chosen import days
from appliance.compare.ports import Listed, Made, OfPerson, Words
from appliance.comparison import Change, Comparison, Followed, PriorRef
from appliance.naming import Naming
from appliance.prior.entry import Cube, Entry, Facts, Image, ImageNames, Person
from appliance.prior.patient import NotKept
from appliance.reasons import Code
from appliance.records import Grid
from appliance.report import (
    BackendRef,
    BundleRef,
    Finding,
    Reason,
    Report,
    SeriesKey,
    SeriesRef,
    Stage,
    Status,
    StudyRef,
)
from appliance.store.files import DISK, Disk
from appliance.store.lock import locked
from appliance.store.rows import ToCompare
from rigs.reports import NAMING

BUNDLE = BundleRef(name="lung-nodule", version="1.0.0", digest="a" * 64)
SIZE = 48


def grid(mm: float) -> Grid:
    matrix = np.zeros((4, 4))
    matrix[0, 2] = matrix[1, 1] = matrix[2, 0] = mm
    matrix[3, 3] = 1
    return Grid((SIZE,) * 3, (mm,) * 3, matrix)


def report(study: str, centers: Sequence[float] = (0.0,), naming: Naming = NAMING) -> Report:
    """A final report of one series with a finding at each of these x."""
    key = SeriesKey(study, f"{study}.1")
    findings = tuple(
        Finding(
            id=number,
            tracking_uid=f"2.25.{naming.report(key, study, str(number)).int}",
            kind="nodule",
            score=0.9,
            threshold=0.5,
            center_lps_mm=(x, 0.0, 0.0),
            box_lps_mm=(x - 3, -3.0, -3.0, x + 3, 3.0, 3.0),
            key_image=0,
        )
        for number, x in enumerate(centers, 1)
    )
    return Report(
        report_id=naming.report(key, BUNDLE.digest, study),
        input_digest=hashlib.sha256(study.encode()).hexdigest(),
        revision=1,
        status=Status.ANALYSED,
        stage=Stage.FINAL,
        study=StudyRef(pseudonym=naming.study(study)),
        series=SeriesRef(slices=10),
        bundle=BUNDLE,
        backend=BackendRef(name="numpy", precision="fp32"),
        findings=findings,
    )


def entry(
    of: Report,
    *,
    person: str = "p",
    taken: str | None = None,
    seed: int = 0,
    birth_date: str | None = None,
) -> Entry:
    """What is kept of an exam. seed: another one has other pixels."""
    rng = np.random.default_rng(seed)
    values = rng.integers(0, 255, (SIZE,) * 3, np.uint8)
    image = Image(values, values > 20, np.ones_like(values, np.bool_), grid(2.0))
    cubes = tuple(
        Cube(
            f.place_lps_mm, f.score, f.id, 6.0,
            rng.integers(-1000, 400, (SIZE,) * 3, np.int16), grid(0.8), values > 200,
        )
        for f in of.findings
    )  # fmt: skip
    study = of.study.pseudonym
    facts = Facts(
        person=Person(key=person, birth_date=birth_date),
        names=ImageNames(
            study_uid=f"1.{int(study[:8], 16)}", series_uid="1.3", sop_class_uid="1.4",
            key_images=tuple((f.id, f"1.5.{f.id}") for f in of.findings),
        ),
        pseudonym=study,
        taken=taken,
        spacing_mm=(1.0, 0.7, 0.7),
        bundle_digest=BUNDLE.digest,
        pixel_digest=hashlib.sha256(values.tobytes()).hexdigest(),
        threshold=0.5,
    )  # fmt: skip
    made = Entry(facts, of, image, cubes, digest="")
    return replace(made, digest=hashlib.sha256(packed(made)).hexdigest())


def listed(made: Entry) -> Listed:
    return Listed(made.report.report_id, made.facts, made.digest)


def packed(made: Entry) -> bytes:
    data = io.BytesIO()
    pickle.dump(made, data)
    return data.getvalue()


class Folder:
    """compare.ports.Exams: a file an exam, for as long as a test runs."""

    def __init__(self, state: Path, disk: Disk = DISK) -> None:
        self._folder, self._disk = state / "test-priors", disk
        disk.make_folder(self._folder)

    def _path(self, report_id: uuid.UUID) -> Path:
        return self._folder / f"{report_id}.pickle"

    def keep(self, entry: Entry) -> None:
        self._disk.write(self._path(entry.report.report_id), packed(entry))

    def of_report(self, report_id: uuid.UUID) -> Entry | None:
        path = self._path(report_id)
        return _read(path) if path.exists() else None

    def of_person(self, key: str) -> OfPerson:
        entries = [_read(path) for path in sorted(self._folder.glob("*.pickle"))]
        return OfPerson(tuple(listed(one) for one in entries if one.facts.person.key == key))

    def remove(self, report_id: uuid.UUID) -> None:
        self._disk.remove(self._path(report_id))

    def held(self) -> AbstractContextManager[None]:
        return locked(self._folder / "lock")

    def holds(self, entry: Entry) -> bool:
        return self._path(entry.report.report_id).exists()


def _read(path: Path) -> Entry:
    made: Entry = pickle.loads(path.read_bytes())  # noqa: S301 - written by this very test
    return made


@dataclass
class Exam:
    """compare.ports.Making: what the headers of each study would say."""

    of_report: dict[str, Callable[[Report], Entry | NotKept]]
    made: int = 0

    def __call__(self, row: ToCompare, of: Report, /) -> Entry | NotKept:
        self.made += 1
        return self.of_report[row.report_id](of)


class Nearest:
    """compare.ports.Comparing: each finding is matched with the nearest one within 10 mm."""

    def __init__(self, naming: Naming = NAMING) -> None:
        self._naming = naming
        self.pairs = 0

    def pair(self, prior: Entry, current: Entry, words: Words) -> Made:
        self.pairs += 1
        reason = _wrong(prior, current)
        entries = (prior.digest, current.digest)
        earlier = prior.report
        apart = days(prior.facts, current.facts)
        followed = () if reason else tuple(_followed(prior, current, words))
        said = Comparison(
            comparison_id=self._naming.comparison(
                words.report.report_id, earlier.report_id, entries, (BUNDLE.digest,)
            ),
            report_id=words.report.report_id,
            study=words.report.study.pseudonym,
            status="not_compared" if reason else "compared",
            reasons=(reason,) if reason else (),
            prior=PriorRef(
                study=earlier.study.pseudonym,
                report_id=earlier.report_id,
                which=words.which,
                interval_days=apart if apart and apart > 0 else None,
            ),
            findings=followed,
            committed=words.committed,
        )
        kept = {cube.finding: cube for cube in prior.cubes}
        now = {cube.finding: cube for cube in current.cubes}
        cubes = [(kept[f.prior_finding or 1], now[f.finding or 1]) for f in followed]
        return Made(said, prior, cubes)

    def nothing(self, code: Code, text: str, current: Entry | None, words: Words) -> Made:
        entries = () if current is None else (current.digest,)
        return Made(
            Comparison(
                comparison_id=self._naming.comparison(
                    words.report.report_id, None, (*entries, code.value), ()
                ),
                report_id=words.report.report_id,
                study=words.report.study.pseudonym,
                status="not_compared",
                reasons=(Reason(code=code, text=text),),
                committed=words.committed,
            )
        )


def _wrong(prior: Entry, current: Entry) -> Reason | None:
    if prior.facts.pixel_digest == current.facts.pixel_digest:
        return Reason(code=Code.SAME_SCAN, text="the same pixels")
    if days(prior.facts, current.facts) == 0:
        return Reason(code=Code.SAME_DAY, text="the same day")
    if prior.facts.person.birth_date != current.facts.person.birth_date:
        return Reason(code=Code.IDENTITY_MISMATCH, text="the birth dates differ")
    return None


def _followed(prior: Entry, current: Entry, words: Words) -> list[Followed]:
    found = []
    for one in current.report.findings:
        here = np.array(one.place_lps_mm)
        near = min(
            prior.report.findings,
            key=lambda then: float(np.linalg.norm(np.array(then.place_lps_mm) - here)),
        )
        away = float(np.linalg.norm(np.array(near.place_lps_mm) - here))
        matched = away <= 10
        uid = words.tracked.get(near.id, near.tracking_uid) if matched else one.tracking_uid
        found.append(
            Followed(
                finding=one.id,
                prior_finding=near.id if matched else None,
                tracking_uid=uid,
                state="matched" if matched else "new",
                distance_mm=away if matched else None,
                change=Change(verdict="within_error") if matched else None,
            )
        )
    return found
