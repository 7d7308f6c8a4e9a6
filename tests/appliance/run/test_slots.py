"""`scanside run` with slots: the next `receive` serves before the last one ends, and `guard` goes
back by itself. `receive` is the real one in every test; the other stages are small programs."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from pynetdicom import AE

from rigs.peers import HANG_S, until
from rigs.run_in_slots import Slotted

STAGE = """
import os, pathlib, signal, socket, sys, time
from appliance.store.heartbeat import living
stopped = []
signal.signal(signal.SIGTERM, lambda *_: stopped.append(1))
folder, stage = pathlib.Path(sys.argv[0]).parent, sys.argv[3]
with living(folder / "state", stage) as heart:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notify:
        notify.sendto(b"READY=1", os.environ["NOTIFY_SOCKET"])
    (folder / f"pid-{stage}").write_text(f"{os.environ['SCANSIDE_SLOT']} {os.getpid()}")
    while not stopped:
        heart.beat()
        time.sleep(0.05)
"""
GOOD = """
case "$1 $3" in
-I* | *receive) exec {{real}} "$@" ;;
*) exec {{real}} {folder}/stage.py "$@" ;;
esac
"""
BAD_WORK = """
case "$3" in
work) exit 3 ;;
*) exec {real} "$@" ;;
esac
"""
BROKEN_IMPORT = """
case "$*" in
*appliance*) exec {real} -c 'import not_there_at_all' ;;
*) exec {real} "$@" ;;
esac
"""
STAGES = "publish work receive retain"


@pytest.fixture
def box(tmp_path: Path) -> Iterator[Slotted]:
    made = Slotted(tmp_path)
    (tmp_path / "stage.py").write_text(STAGE)
    for slot in (1, 2):
        made.python(slot, GOOD.format(folder=tmp_path))
    made.start()
    try:
        made.wait_ready()
        yield made
    finally:
        made.end()


def echo(port: int) -> bool:
    ae = AE(ae_title="CT1")
    ae.add_requested_context("1.2.840.10008.1.1")
    association = ae.associate("127.0.0.1", port, ae_title="SCANSIDE")
    if not association.is_established:
        return False
    try:
        return bool(association.send_c_echo().Status == 0)
    finally:
        association.release()


class Asker:
    """C-ECHO without pause, each in an association of its own."""

    def __init__(self, port: int) -> None:
        self.answered = self.refused = 0
        self._stop = threading.Event()
        self._port = port
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        while not self._stop.is_set():
            if echo(self._port):
                self.answered += 1
            else:
                self.refused += 1

    def end(self) -> None:
        self._stop.set()
        self._thread.join(HANG_S)


def hand_over(box: Slotted, new: int, old: int) -> None:
    box.units.start("receive", new)
    box.units.stop("receive", old)


def test_no_association_is_refused_in_ten_hand_overs(box: Slotted) -> None:
    asker = Asker(box.port)
    try:
        for turn in range(10):
            before = asker.answered
            new, old = (2, 1) if turn % 2 == 0 else (1, 2)
            hand_over(box, new, old)
            until(lambda least=before + 1: asker.answered > least)
            assert (box.places.state / "run" / "receive.port").read_text() == f"{box.port}\n"
            states = [box.units.state("receive", slot) for slot in (new, old)]
            assert states == ["ready", "absent"]
    finally:
        asker.end()
    assert (asker.refused, asker.answered >= 20) == (0, True)


def test_an_association_that_is_open_is_drained_by_the_old_receive(box: Slotted) -> None:
    ae = AE(ae_title="CT1")
    ae.add_requested_context("1.2.840.10008.1.1")
    box.places.environment(1).write_text("SCANSIDE_TRIAL=1\n")
    box.units.restart("receive", 1)
    until(lambda: box.places.beat("receive").exists())
    association = ae.associate("127.0.0.1", box.port, ae_title="SCANSIDE")
    assert association.is_established
    box.units.start("receive", 2)
    ends = threading.Thread(target=box.units.stop, args=("receive", 1))
    ends.start()
    until(lambda: box.units.state("receive", 1) == "stopping")
    until(lambda: not box.places.beat("receive").exists())  # who drains does not hang
    assert echo(box.port), "the new one answers"
    assert association.send_c_echo().Status == 0, "and the old one still does"
    association.release()
    ends.join(HANG_S)
    assert box.units.state("receive", 1) == "absent"
    assert "lost" not in box.log.read_text(), "the new one took nobody's association for lost"


def slot_of(box: Slotted, stage: str) -> str:
    return (box.folder / f"pid-{stage}").read_text().split()[0]


def switch(box: Slotted) -> None:
    """As `apply` does: the slot on trial, `receive` first, then the others."""
    box.begin_trial(STAGES)
    hand_over(box, 2, 1)
    for stage in STAGES.replace(" receive", "").split():
        box.units.stop(stage, 1)
    for stage in STAGES.replace(" receive", "").split():
        (box.units._control / f"begun-{stage}.req").write_text(f"begin {stage} 2\n")


def gone_back(box: Slotted) -> bool:
    return not box.places.trial.exists() and os.readlink(box.places.current) == "slots/1"


def serves_again(box: Slotted) -> bool:
    return all(box.units.state(stage, 1) == "ready" for stage in STAGES.split())


def goes_back(box: Slotted) -> str:
    """Why, after it did, while a scanner asks without pause and is never refused."""
    asker = Asker(box.port)
    try:
        until(lambda: gone_back(box), 3 * HANG_S)
        until(lambda: serves_again(box))
        count = asker.answered
        until(lambda: asker.answered > count + 1)
    finally:
        asker.end()
    assert asker.refused == 0
    assert box.units.state("receive", 2) == "absent"
    return box.places.reason.read_text()


def test_a_slot_with_a_stage_that_dies_at_its_start_is_left(box: Slotted) -> None:
    box.python(2, BAD_WORK)
    switch(box)
    assert goes_back(box) == "slot=2 stage=work why=starts\n"
    assert slot_of(box, "work") == "1"


@pytest.mark.long
def test_a_slot_whose_code_breaks_at_import_is_left(box: Slotted) -> None:
    """Its receive serves at no moment, so the one before was never stopped for it."""
    box.python(2, BROKEN_IMPORT)
    box.begin_trial(STAGES)
    (box.units._control / "begun.req").write_text("begin receive 2\n")
    assert goes_back(box) == "slot=2 stage=receive why=starts\n"


def test_a_stage_that_hangs_without_a_crash_is_left(box: Slotted) -> None:
    switch(box)
    until(lambda: slot_of(box, "work") == "2")
    until(lambda: (box.places.beat("work")).exists())
    os.kill(int((box.folder / "pid-work").read_text().split()[1]), signal.SIGSTOP)
    assert goes_back(box) == "slot=2 stage=work why=hang\n"
    assert slot_of(box, "work") == "1"


@pytest.mark.long
def test_the_slot_before_serves_within_a_minute_of_the_third_failed_start(
    box: Slotted, record_testsuite_property: Callable[[str, object], None]
) -> None:
    """The aim of an update; how long it took is written into the report of the tests."""
    box.python(2, BAD_WORK)
    switch(box)
    starts = box.places.starts("work")
    until(lambda: starts.exists() and starts.read_text().count("2\n") >= trial_starts(box))
    third = time.monotonic()
    until(lambda: gone_back(box) and serves_again(box), 3 * HANG_S)
    took = time.monotonic() - third
    record_testsuite_property("rollback_after_third_start_s", round(took, 1))

    assert took < 60


def trial_starts(box: Slotted) -> int:
    """So many starts without a beat end a trial, as the script says."""
    text = (box.places.root / "guard" / "guard.sh").read_text()
    return int(text.split("most_without_beat=")[1].split("\n")[0])
