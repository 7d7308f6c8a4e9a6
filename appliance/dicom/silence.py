"""Libraries that write what a header says into their log, and are kept from it.

Rule: a line of theirs quotes the value that it complains of, and that may be a name or an id. A
process that reads headers by them silences them before it reads the first one.
"""

from __future__ import annotations

import logging
from typing import Final

QUOTING: Final = ("pydicom", "highdicom")
"""Names of loggers; those below them go with them."""


def silence() -> None:
    """From now on nothing that these libraries log gets anywhere."""
    for library in QUOTING:
        logger = logging.getLogger(library)
        logger.propagate = False
        logger.handlers = [logging.NullHandler()]
