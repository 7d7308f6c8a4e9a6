"""The line of comparisons (lines/compare.py) with the bundles of this device: ports.Comparing."""

from __future__ import annotations

from appliance.compare.ports import Made, Words
from appliance.host import facts
from appliance.lines import compare
from appliance.lines.compare import Compared, Ids
from appliance.naming import Naming
from appliance.prior.entry import Entry
from appliance.reasons import Code
from appliance.runtime.comparing import LAYING, CompareBundles


class Line:
    """Compares and seals."""

    def __init__(self, bundles: CompareBundles, naming: Naming) -> None:
        self._bundles = bundles
        self._naming = naming

    def pair(self, prior: Entry, current: Entry, words: Words) -> Made:
        """Poisoned where a network fails, BundleRefused where nothing measures."""
        bundles = self._bundles.of(current.facts.bundle_digest)
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
