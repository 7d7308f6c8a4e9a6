"""A process that wrote into a journal and was killed: what it wrote is in the log alone."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

WRITER = """
import pathlib, sys
from appliance.report import SeriesKey
from appliance.store.journal import Journal
journal = Journal.open(pathlib.Path(sys.argv[1]))
for series in sys.argv[2:]:
    journal.series.set(SeriesKey("1.2", series), "open")
print("written", flush=True)
sys.stdin.read()
"""


def left_in_the_log(state: Path, *series: str) -> None:
    """Series of study 1.2, open, in a journal that nobody closed."""
    with subprocess.Popen(
        [sys.executable, "-c", WRITER, str(state), *series],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as writer:
        assert writer.stdout is not None
        assert writer.stdout.readline() == b"written\n"
        os.kill(writer.pid, signal.SIGKILL)
