"""Series of the phantom as files, of a patient who was made up."""

from __future__ import annotations

import subprocess
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from pydicom.dataset import Dataset

from appliance.phantom import instances
from appliance.phantom.chest import Phantom
from appliance.report import SeriesKey
from rigs.programs import program

PHI = {
    "PatientName": "Zyxwvut^Hidden",
    "PatientID": "PID-778899",
    "PatientBirthDate": "19410203",
    "AccessionNumber": "ACC-445566",
    "StudyDescription": "Secret description",
    "ReferringPhysicianName": "Quacksalver^Doc",
}
Change = Callable[[Dataset, int], Dataset | None]


@dataclass(frozen=True)
class Scan:
    """A series as files in a folder, in order of Instance Number (head first)."""

    folder: Path
    study: str
    series: str
    files: tuple[Path, ...]

    @property
    def key(self) -> SeriesKey:
        return SeriesKey(self.study, self.series)


@dataclass
class Scans:
    """Makes series of the phantoms."""

    root: Path
    coarse: Phantom
    """5 mm: the usual one."""
    finer: Phantom
    """4 mm, the same anatomy."""
    made: list[Scan] = field(default_factory=list)

    def make(
        self,
        change: Change = lambda image, index: image,
        *,
        phantom: Phantom | None = None,
        study: str | None = None,
        under: str = "",
    ) -> Scan:
        """A new series (of a new study unless one is given); `change` may alter or drop images."""
        study = study or _uid()
        series = _uid()
        folder = self.root / under / series
        folder.mkdir(parents=True)
        files = []
        made = instances.series(phantom or self.coarse, study_uid=study, series_uid=series)
        for index, image in enumerate(made):
            for name, value in PHI.items():
                setattr(image, name, value)
            del image.ImagesInAcquisition  # no expectation, unless `change` gives one
            image.PatientAge = "060Y"
            if (changed := change(image, index)) is not None:
                path = folder / f"{index:04d}.dcm"
                changed.save_as(path, enforce_file_format=True)
                files.append(path)
        self.made.append(Scan(folder, study, series, tuple(files)))
        return self.made[-1]

    def recoded(self, scan: Scan, *command: str) -> Scan:
        """The same images in another transfer syntax, by dcmtk; made once."""
        folder = self.root / f"{scan.series}-{command[0]}"
        if not folder.exists():
            folder.mkdir()
            for path in scan.files:
                options = [program(command[0]), *command[1:], str(path), str(folder / path.name)]
                subprocess.run(options, check=True, timeout=60)
        return Scan(folder, scan.study, scan.series, tuple(sorted(folder.iterdir())))


def _uid() -> str:
    return f"2.25.{uuid.uuid4().int}"
