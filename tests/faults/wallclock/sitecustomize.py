"""In a process under libfaketime: files bear the time that the wall clock showed when they changed.

libfaketime 0.9.10 fakes clocks but no longer stat(2), so a file would seem years away from the
clock that stamped it. $WALL_CLOCK names a file with a line `since offset` (seconds) for each time
that the clock was set, in real time; a stamp is shifted by what was in force when it was made.
Nor does time.sleep work there: the absolute clock_nanosleep that Python calls since 3.11 is
answered EINVAL.
"""

import os
import select
import time

_stat = os.stat


def _shifted(*arguments, **options):
    found = _stat(*arguments, **options)
    offset = 0
    with open(os.environ["WALL_CLOCK"], encoding="ascii") as history:
        for line in history:
            since, after = line.split()
            if found.st_mtime >= float(since):
                offset = int(after)
    changed = found.st_mtime + offset
    times = {
        "st_atime": found.st_atime,
        "st_mtime": changed,
        "st_ctime": found.st_ctime,
        "st_atime_ns": found.st_atime_ns,
        "st_mtime_ns": found.st_mtime_ns + offset * 10**9,
        "st_ctime_ns": found.st_ctime_ns,
        "st_blksize": found.st_blksize,
        "st_blocks": found.st_blocks,
        "st_rdev": found.st_rdev,
    }
    plain = list(found)[:10]
    plain[8] = int(changed)
    return os.stat_result(plain, times)


def _slept(seconds):
    select.select([], [], [], seconds)


if "WALL_CLOCK" in os.environ:
    os.stat = _shifted
    time.sleep = _slept
