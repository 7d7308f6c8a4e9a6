"""A known SOP Instance UID that comes again: the same image, another one, or another header.

| it has                                  | answer                         | event         |
|-----------------------------------------|--------------------------------|---------------|
| the same bytes                          | success                        |               |
| other pixels, or another place          | 0111, `duplicate_sop_instance` |               |
| a header that changed what decides      | 0111, `changed_header`         | HeaderChanged |
| a header that changed anything we note  | success, the first one stays   | HeaderChanged |
| else another header or transfer syntax  | success, the first one stays   |               |

What decides and what is noted, `series.changed` says. The status 0111 is PS3.7 annex C.
Only one association at a time decodes, so what that needs is needed once, however many send.
"""

from __future__ import annotations

import hashlib
import mmap
from pathlib import Path

from appliance.errors import InstanceRefused
from appliance.receive.peek import peek
from appliance.store.lock import locked
from appliance.store.spool import DUPLICATE_SOP_INSTANCE


class Comparison:
    """Whether two files are the same image, and what is to be said of them where they differ."""

    def __init__(self, ration: Path) -> None:
        """ration: the file whose lock is the turn to decode."""
        self.digests: dict[str, str] = {}
        """Of both data sets, where the pixels differ."""
        self.changed: tuple[str, ...] = ()
        """Names of what the headers say differently."""
        self._ration = ration

    def same(self, new: Path, stored: Path) -> bool:
        """Whether `stored` may stand for `new`; InstanceRefused where only its header may not."""
        one, other = _mapped(new), _mapped(stored)
        facts, known = peek(one), peek(other)
        ours, theirs = one[facts.dataset_at :], other[known.dataset_at :]
        if facts.transfer_syntax == known.transfer_syntax and ours == theirs:
            return True
        # here, because only duplicates that differ need the decoders
        from appliance.series import changed, same  # noqa: PLC0415

        with locked(self._ration):
            found = same.shown(one)
            if found is None or found != same.shown(other):
                self.digests = {
                    "sha256": hashlib.sha256(ours).hexdigest(),
                    "sha256_stored": hashlib.sha256(theirs).hexdigest(),
                }
                return False
            differs = changed.changed(bytes(one), bytes(other))
        self.changed = (*differs.decisive, *differs.noted)
        if differs.decisive:
            raise InstanceRefused(
                f"known with another header ({', '.join(differs.decisive)}); the first one stays",
                status=DUPLICATE_SOP_INSTANCE,
                code="changed_header",
                remedy="`scanside doctor` says how the device takes the corrected images.",
            )
        return True


def _mapped(path: Path) -> memoryview:
    """A file's bytes, read when they are looked at."""
    with path.open("rb") as file:
        return memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
