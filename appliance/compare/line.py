"""The line of comparisons (lines/compare.py) with the bundles of this device: ports.Comparing."""

from __future__ import annotations

from appliance.compare.ports import Made, Words
from appliance.host import facts
from appliance.lines import compare
from appliance.lines.compare import Compared, Ids
from appliance.naming import Naming
from appliance.prior.entry import Entry
from appliance.reasons import Code
from appliance.runtime.comparing import ACTIVE, LAYING, CompareBundles


class Line:
    """Compares and seals."""

    def __init__(
        self,
        bundles: CompareBundles,
        naming: Naming,
        *,
        as_before: bool = False,
        measured_by: str | None = None,
        registered_by: str | None = None,
    ) -> None:
        """as_before: with just these bundles, by digest, as a comparison of before says it."""
        self._bundles = bundles
        self._naming = naming
        self._as_before = as_before
        self._measured_by = measured_by
        self._registered_by = registered_by

    def pair(self, prior: Entry, current: Entry, words: Words) -> Made:
        """Poisoned where a network fails, BundleRefused where nothing measures."""
        measures = self._measured_by or current.facts.bundle_digest
        lays = self._registered_by if self._as_before else ACTIVE
        bundles = self._bundles.of(measures, lays)
        return self._sealed(compare.compare(prior, current, bundles, LAYING), words)

    def nothing(self, code: Code, text: str, current: Entry | None, words: Words) -> Made:
        return self._sealed(compare.refused(code, text, None, current), words)

    def _sealed(self, compared: Compared, words: Words) -> Made:
        ids = Ids(
            naming=self._naming,
            report=words.report,
            appliance=facts.version(),
            which=words.which,
            tracked=words.tracked,
        )
        said = compare.seal(compared, ids, words.committed)
        return Made(said, compared.prior, compared.cubes)
