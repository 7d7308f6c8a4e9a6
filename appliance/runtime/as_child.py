"""What each child of `work` does around its own work (work/child.py is the parent's side).

Rules
1. Its settings come on stdin, as JSON from its parent, of the same release.
2. Its log goes to stderr, and no text of a header gets into it (dicom/silence).
3. It ends with 0 and one line that says what it did; with 1 and one line where the state folder
   does not let it. Whatever else is raised is an error of ours, and ends it with a traceback.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable

from appliance.dicom.silence import silence
from appliance.errors import ScansideError
from appliance.settings import Settings


def run(log: logging.Logger, work: Callable[[Settings], str]) -> int:
    """The exit code. `work` does the work and returns the line that says what it did."""
    logging.basicConfig(
        level=logging.INFO,
        stream=sys.stderr,
        format="%(asctime)s %(levelname)s %(name)s: %(message)s",
    )
    silence()
    try:
        said = work(Settings.model_validate_json(sys.stdin.read()))
    except ScansideError as e:
        log.error("%s", e.one_line())
        return 1
    log.info("%s", said)
    return 0
