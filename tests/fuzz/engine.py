"""Coverage-guided mutation of targets, one after another, in a process of its own.

    python engine.py SEEDS SEED SLOT TARGET=COUNT ...

Rules
- Everything follows from SEED: the same arguments try the same inputs.
- An input that reaches a line of the product which none reached before joins the seeds.
- Before an input is tried it lies in the file SLOT (4 bytes of length, then the bytes), so that the
  one that ends this process, by a crash of a decoder or by the alarm, can be read there.
- An input that takes longer than HANG_S of wall clock ends the process: the tracebacks go to
  stderr, the signal is SIGALRM.
- What a target raises is a finding: one for each kind and place, with the input.
- Memory: resident size after a fifth of the inputs and at the end, both after a collection.

A line of JSON for each target on stdout, see `Outcome`.
"""

from __future__ import annotations

import base64
import faulthandler
import gc
import json
import logging
import mmap
import random
import re
import resource
import signal
import struct
import sys
import time
import traceback
import warnings
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

import appliance

HANG_S = 10.0
LONGEST = 256 << 10
"""No input is longer."""
KEPT = 400
"""So many found inputs stay among the seeds; a new one then takes the place of any."""
WARM_UP = 5
"""After this part of the inputs (a fifth) everything that is loaded once is loaded."""
FINDINGS_MAX = 5
PRODUCT = str(Path(appliance.__file__).parent)

Target = Callable[[bytes], None]


@dataclass
class Outcome:
    target: str
    inputs: int = 0
    seconds: float = 0.0
    cpu_s: float = 0.0
    lines: int = 0
    """Lines of the product that were reached."""
    kept: int = 0
    """Inputs that reached one first."""
    warm_mb: float = 0.0
    end_mb: float = 0.0
    peak_mb: float = 0.0
    slowest_s: float = 0.0
    findings: list[dict[str, str]] = field(default_factory=list)


class Mutator:
    """Edits that break lengths, values and order, one to six at a time."""

    INTERESTING = (0, 1, 2, 0x7F, 0x80, 0xFF, 0x7FFF, 0x8000, 0xFFFE, 0xFFFF, 0x10000, 0x7FFFFFFF,
                   0x80000000, 0xFFFFFFFE, 0xFFFFFFFF)  # fmt: skip
    NUMBERS = (b"0", b"-1", b"1", b"-0", b"2", b"1e308", b"-1e308", b"1e-300", b"nan", b"inf",
               b"65535", b"65536", b"4294967296", b"-2147483648", b"99999999999999999999", b"1.5",
               b"", b"1e999", b"0x10", b"1_0", "\u0661".encode())  # fmt: skip
    NUMBER = re.compile(rb"[0-9.+-]{1,16}")

    def __init__(self, chance: random.Random, words: Sequence[bytes]) -> None:
        self.chance = chance
        self.words = words
        self.edits = (
            self.bits, self.byte, self.integer, self.integer, self.nearby, self.delete, self.repeat,
            self.insert, self.word, self.word, self.number, self.cut, self.move, self.splice,
        )  # fmt: skip

    def __call__(self, data: bytes, other: bytes) -> bytes:
        edited = bytearray(data)
        for _ in range(self.chance.choice((1, 1, 1, 2, 2, 3, 6))):
            if not edited:
                edited += other[:64] or b"\0"
            self.chance.choice(self.edits)(edited, other)
        return bytes(edited[:LONGEST])

    def at(self, data: bytearray) -> int:
        """Anywhere, a little more often in the last third, where pixels and values are."""
        first = len(data) * 2 // 3 if self.chance.random() < 0.3 else 0
        return self.chance.randrange(first, len(data))

    def stretch(self, data: bytearray) -> tuple[int, int]:
        """Mostly short, sometimes anything."""
        start = self.at(data)
        longest = self.chance.choice((2, 8, 64, len(data)))
        return start, min(len(data), start + self.chance.randint(1, longest))

    def bits(self, data: bytearray, _: bytes) -> None:
        data[self.at(data)] ^= 1 << self.chance.randrange(8)

    def byte(self, data: bytearray, _: bytes) -> None:
        data[self.at(data)] = self.chance.randrange(256)

    def integer(self, data: bytearray, _: bytes) -> None:
        size = self.chance.choice((1, 2, 4))
        value = self.chance.choice((*self.INTERESTING, len(data), len(data) // 2)) % (1 << 8 * size)
        at = self.at(data)
        data[at : at + size] = value.to_bytes(size, self.chance.choice(("little", "big")))

    def nearby(self, data: bytearray, _: bytes) -> None:
        """A number that was there, a little or a lot more or less."""
        size, order = self.chance.choice((1, 2, 4)), self.chance.choice(("little", "big"))
        at = self.at(data)
        value = int.from_bytes(data[at : at + size], order)
        value += self.chance.choice((-1, 1, -2, 2, -8, 8, value, -(value // 2)))
        data[at : at + size] = (value % (1 << 8 * size)).to_bytes(size, order)

    def delete(self, data: bytearray, _: bytes) -> None:
        start, end = self.stretch(data)
        del data[start:end]

    def repeat(self, data: bytearray, _: bytes) -> None:
        start, end = self.stretch(data)
        piece = bytes(data[start:end]) * self.chance.choice((1, 1, 2, 50))
        data[end:end] = piece[:LONGEST]

    def insert(self, data: bytearray, _: bytes) -> None:
        at = self.at(data)
        data[at:at] = self.chance.choice((b"\0", b"\xff", b" ", b"\\")) * self.chance.choice(
            (1, 2, 8, 1000)
        )

    def word(self, data: bytearray, _: bytes) -> None:
        word, at = self.chance.choice(self.words), self.at(data)
        data[at : at + len(word) * self.chance.randrange(2)] = word

    def number(self, data: bytearray, _: bytes) -> None:
        """Another number where one is written in digits; mostly no longer than that one."""
        found = self.NUMBER.search(data, self.at(data))
        if found is None:
            return
        number = self.chance.choice(self.NUMBERS)
        room = found.end() - found.start()
        padded = self.chance.random() < 0.8
        data[found.start() : found.end()] = number[:room].ljust(room) if padded else number

    def cut(self, data: bytearray, _: bytes) -> None:
        del data[self.at(data) :]

    def move(self, data: bytearray, _: bytes) -> None:
        start, end = self.stretch(data)
        piece = bytes(data[start:end])
        del data[start:end]
        at = self.chance.randint(0, len(data))
        data[at:at] = piece

    def splice(self, data: bytearray, other: bytes) -> None:
        if other:
            start, end = self.stretch(bytearray(other))
            at = self.at(data)
            data[at : at + self.chance.choice((0, end - start))] = other[start:end]


class Coverage:
    """A tracer (sys.settrace) that knows which lines of the product were ever reached."""

    def __init__(self) -> None:
        self.seen: set[tuple[CodeType, int]] = set()
        self.new = False
        self._ours: dict[CodeType, bool] = {}

    def __call__(self, frame: FrameType, event: str, _: Any) -> Any:
        code = frame.f_code
        ours = self._ours.get(code)
        if ours is None:
            ours = self._ours[code] = code.co_filename.startswith(PRODUCT)
        return self.line if ours else None

    def line(self, frame: FrameType, event: str, _: Any) -> Any:
        place = frame.f_code, frame.f_lineno
        if place not in self.seen:
            self.seen.add(place)
            self.new = True
        return self.line


class Slot:
    """The input that is being tried, where another process can read it."""

    def __init__(self, path: Path) -> None:
        with path.open("wb+") as file:
            file.truncate(4 + LONGEST)
            self._memory = mmap.mmap(file.fileno(), 4 + LONGEST)

    def put(self, data: bytes) -> None:
        self._memory[0 : 4 + len(data)] = struct.pack("<I", len(data)) + data


def resident_mb() -> float:
    gc.collect()
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize() / (1 << 20)


def peak_mb() -> float:
    """The most this process held; ru_maxrss would begin with what its parent held at the fork."""
    status = Path("/proc/self/status").read_text()
    (line,) = (line for line in status.splitlines() if line.startswith("VmHWM:"))
    return int(line.split()[1]) / 1024


def fuzz(
    name: str, target: Target, seeds: list[bytes], words: Sequence[bytes], count: int, seed: int,
    slot: Slot,
) -> Outcome:  # fmt: skip
    """Every seed once as it is, then mutations, `count` inputs in all."""
    outcome, coverage = Outcome(name), Coverage()
    chance = random.Random(seed)
    mutate = Mutator(chance, words)
    found: list[bytes] = []
    places: set[str] = set()
    began, worked = time.monotonic(), time.process_time()
    for n in range(count):
        if n < len(seeds):
            data = seeds[n]
        else:
            parents = found if found and chance.random() < 0.5 else seeds
            data = mutate(chance.choice(parents), chance.choice(seeds))
        slot.put(data)
        coverage.new = False
        tried = time.monotonic()
        signal.setitimer(signal.ITIMER_REAL, HANG_S)
        sys.settrace(coverage)
        try:
            target(data)
        except BaseException as e:  # noqa: BLE001 - a decoder written in Rust panics with one
            sys.settrace(None)
            place = f"{type(e).__name__} at {traceback.extract_tb(e.__traceback__)[-1][:3]}"
            if place not in places and len(places) < FINDINGS_MAX:
                places.add(place)
                trace = "".join(traceback.format_exception(e))
                outcome.findings.append({"trace": trace, "input": base64.b64encode(data).decode()})
        finally:
            sys.settrace(None)
            signal.setitimer(signal.ITIMER_REAL, 0)
        outcome.slowest_s = max(outcome.slowest_s, time.monotonic() - tried)
        if coverage.new and n >= len(seeds):
            outcome.kept += 1
            if len(found) < KEPT:
                found.append(data)
            else:
                found[chance.randrange(KEPT)] = data
        if n == count // WARM_UP:
            outcome.warm_mb = resident_mb()
    outcome.inputs, outcome.lines = count, len(coverage.seen)
    outcome.end_mb = resident_mb()
    outcome.peak_mb = peak_mb()
    outcome.seconds, outcome.cpu_s = time.monotonic() - began, time.process_time() - worked
    return outcome


def main(seeds: Path, seed: int, slot: Path, counts: dict[str, int]) -> None:
    import targets  # noqa: PLC0415 - beside this file, which is then a program of its own

    faulthandler.enable()
    faulthandler.register(signal.SIGALRM, chain=True)
    warnings.simplefilter("ignore")
    logging.disable()
    for path in (seeds / "decode").iterdir():  # load every decoder, which costs 50 MB once
        targets.a_decode(path.read_bytes())
    tried = Slot(slot)
    for name, count in counts.items():
        given = [path.read_bytes() for path in sorted((seeds / name).iterdir())]
        with targets.opened(name, seeds) as target:
            outcome = fuzz(name, target, given, targets.WORDS[name], count, seed, tried)
        sys.stdout.write(json.dumps(asdict(outcome)) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    pairs = (argument.partition("=") for argument in sys.argv[4:])
    given = {name: int(count) for name, _, count in pairs}
    main(Path(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3]), given)
