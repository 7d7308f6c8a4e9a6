"""A state folder in which reports were committed that archives are owed objects of."""

from __future__ import annotations

import io
import sqlite3
from collections.abc import Sequence
from datetime import datetime, timezone
from pathlib import Path, PurePosixPath

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset

from appliance.compose.child import Composer
from appliance.naming import Naming
from appliance.records import Facts, Mask, Result
from appliance.report import (
    BackendRef,
    BundleRef,
    Coverage,
    Finding,
    Reason,
    Report,
    SeriesKey,
    SeriesRef,
    Stage,
    Status,
    StudyRef,
    Times,
)
from appliance.results import destinations
from appliance.results.owed import Withdrawn
from appliance.settings import Settings
from appliance.store import kept
from appliance.store.files import DISK, Disk
from appliance.store.journal import JOURNAL_NAME, Journal
from appliance.store.rows import OwedRow, SeriesState
from appliance.store.site_key import site_key
from appliance.store.spool import Spool
from rigs import bodies, oblique

NOON = datetime(2026, 1, 5, 12, tzinfo=timezone.utc)
X, Y, Z = oblique.MIDDLE.tolist()
FOUND = Finding(
    id=1,
    tracking_uid="2.25.77",
    kind="nodule",
    score=0.913,
    threshold=0.42,
    center_lps_mm=(X, Y, Z),
    box_lps_mm=(X - 9, Y - 5, Z - 7, X + 9, Y + 5, Z + 7),
    diameter_mm=14.0,
    measured=True,
    long_axis_mm=18.0,
    short_axis_mm=10.0,
    mean_axis_mm=14.0,
    volume_mm3=1319.5,
    density="part_solid",
    side="left",
    key_image=3,
)
"""The body that rigs.oblique paints."""
BUNDLE = BundleRef(name="lung-nodule", version="1.0.0", digest="a" * 64)


def body() -> Mask:
    """The body of FOUND, as the measuring network would have drawn it."""

    def inside(lps: NDArray[np.float64]) -> NDArray[np.bool_]:
        away = np.linalg.norm((lps - oblique.MIDDLE) / oblique.RADII, axis=-1)
        return np.asarray(away <= 1)

    drawn = bodies.drawn(inside, oblique.MIDDLE, 24.0, 0.8)
    return Mask("finding-1", drawn.voxels, drawn.grid, oblique.axes())


class Site:
    """One device with archives. `archives`: tables of `[[deliver]]`, without host and AE titles."""

    def __init__(self, state: Path, *archives: dict[str, object]) -> None:
        address = {"host": "127.0.0.1", "called_ae": "PACS"}
        self.settings = Settings.model_validate(
            {"state": state, "deliver": [{**address, **one} for one in archives]}
        )
        DISK.make_folder(state)
        self.journal = Journal.open(state)
        self.spool = Spool(state)
        self.naming = Naming(site_key(state))
        self._to = destinations.of(self.settings.deliver)

    def store(self, images: Sequence[Dataset]) -> SeriesKey:
        """As `receive` leaves them."""
        for image in images:
            data = io.BytesIO()
            image.save_as(data, enforce_file_format=True)
            temp = self.spool.incoming_path()
            temp.write_bytes(data.getvalue())
            uids = image.StudyInstanceUID, image.SeriesInstanceUID, image.SOPInstanceUID
            self.spool.store(temp, *uids, lambda *_: True)
        return SeriesKey(str(images[0].StudyInstanceUID), str(images[0].SeriesInstanceUID))

    def commit(
        self,
        key: SeriesKey,
        *findings: Finding,
        reasons: Sequence[Reason] = (),
        stage: Stage = Stage.FINAL,
        images: str = "b" * 64,
        revision: int = 1,
        before: Report | None = None,
        withdraws: Sequence[Withdrawn] = (),
        state: SeriesState = "analysed",
    ) -> Report:
        """A report of the series, with what archives are owed of it. before: what it supersedes."""
        uids = list(self.spool.instances(key))
        report = Report(
            report_id=self.naming.report(key, BUNDLE.digest, images),
            input_digest=images,
            revision=revision,
            supersedes=before.report_id if before else None,
            status=Status.NOT_ANALYSED if reasons else Status.ANALYSED,
            stage=stage,
            reasons=tuple(reasons),
            study=StudyRef(pseudonym=self.naming.study(key.study)),
            series=SeriesRef(modality="CT", slices=len(uids), spacing_mm=(2.0, 0.7, 0.7)),
            bundle=BUNDLE,
            backend=None if reasons else BackendRef(name="onnxruntime", precision="int8"),
            findings=findings,
            times=Times(committed=NOON),
        )
        facts = Facts(
            key.study, key.series, "CT", len(uids), None, None, None, Coverage(),
            images=() if reasons else tuple(f"{uid}/0" for uid in uids),
        )  # fmt: skip
        masks = (body(),) if findings else ()
        result = Result(report.status, facts, images, masks=masks, reasons=tuple(reasons))
        kept.keep(self.settings.state, report, result, uids)
        owed = destinations.of_report(
            report, key, naming=self.naming, withdraws=withdraws, at=NOON, to=self._to
        )
        self.journal.commit_report(report, key, owed=owed, series_state=state, instances=len(uids))
        return report

    def age(self, seconds: float) -> None:
        """All series are as if their images had come so much earlier."""
        with sqlite3.connect(self.settings.state / JOURNAL_NAME) as db:
            db.execute("UPDATE series SET last_at = last_at - ?", (seconds,))

    def compose(self, disk: Disk = DISK) -> int:
        """One run of what the child does; how many files there are of it."""
        return Composer(self.settings, self.journal, disk).run()

    def rows(self, archive: str = "pacs") -> list[OwedRow]:
        """What one archive waits for."""
        return self.journal.owed.waiting(archive, -1)

    def data(self, row: OwedRow) -> bytes:
        """The object of a row that was composed."""
        assert row.file is not None, row
        return Path(self.settings.state, PurePosixPath(row.file)).read_bytes()
