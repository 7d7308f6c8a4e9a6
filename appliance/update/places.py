"""Where the parts of an update lie on a box: one record, so that no path is written twice.

root        slots/N, the links `current` and `previous`, wheels/, guard/
trusted     what `apply` alone writes: metadata, steps, trial, hold
downloads   what `update` alone writes: a repository, as far as this box needs it; never believed
state       what the stages share
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Places:
    """The four folders, and what lies in them."""

    root: Path
    trusted: Path
    downloads: Path
    state: Path

    def slot(self, number: int) -> Path:
        """A slot's folder, whether it is there or not."""
        return self.root / "slots" / str(number)

    @property
    def current(self) -> Path:
        """The link to the slot that runs."""
        return self.root / "current"

    @property
    def previous(self) -> Path:
        """The link to the slot that ran before."""
        return self.root / "previous"

    @property
    def wheels(self) -> Path:
        """The wheels that are kept, for every Python."""
        return self.root / "wheels"

    @property
    def guard(self) -> Path:
        """The files of `guard`, which lie outside of the slots."""
        return self.root / "guard"

    @property
    def trial(self) -> Path:
        """The flat file that `guard` reads while a release is on trial."""
        return self.trusted / "trial"

    @property
    def reason(self) -> Path:
        """The flat file in which `guard` says why it went back."""
        return self.trusted / "reason"

    @property
    def alive(self) -> Path:
        """The flat file in which `apply` says, while a release is on trial, that it lives."""
        return self.trusted / "alive"

    def environment(self, number: int) -> Path:
        """The EnvironmentFile of a slot's units."""
        return self.trusted / "env" / str(number)

    def starts(self, stage: str) -> Path:
        """The flat file of a stage's starts."""
        return self.state / "trial" / f"{stage}.starts"

    def beat(self, stage: str) -> Path:
        """The flat file of a stage's last beat."""
        return self.state / "trial" / f"{stage}.beat"
