"""Pauses after failed logins, by account and address together.

Rules. Pure but for what it remembers.
- The first FREE failures cost nothing; then each one costs a pause, 1 s doubling to LONGEST_S.
- A pause is that of one account at one address. So who fails on purpose, with any name, keeps
  nobody else out: not the same account from another address, nor another account from the same.
- A login that works forgets the failures of its pair. Failures older than FORGET_S are forgotten.
- At most MOST pairs are remembered, the newest: names are a sender's to invent. Memory alone: a
  restart forgets them, and whoever can restart the stage needs no password.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

FREE = 3
LONGEST_S = 300.0
FORGET_S = 3600.0
MOST = 4096


@dataclass(slots=True)
class _Failed:
    count: int
    at: float


class Backoff:
    """`tick`: seconds of a clock that only goes on."""

    def __init__(self, tick: Callable[[], float]) -> None:
        self._tick = tick
        self._turn = threading.Lock()
        self._failed: OrderedDict[tuple[str, str], _Failed] = OrderedDict()

    def wait_s(self, account: str, address: str) -> float:
        """How long this pair still has to wait; 0 where it may try."""
        with self._turn:
            found = self._failed.get((account, address))
            if found is None:
                return 0.0
            passed = self._tick() - found.at
            if passed > FORGET_S:
                return 0.0
            return max(0.0, _pause_s(found.count) - passed)

    def failed(self, account: str, address: str) -> None:
        with self._turn:
            now = self._tick()
            found = self._failed.pop((account, address), None)
            before = found.count if found and now - found.at <= FORGET_S else 0
            self._failed[account, address] = _Failed(before + 1, now)
            while len(self._failed) > MOST:
                self._failed.popitem(last=False)

    def worked(self, account: str, address: str) -> None:
        with self._turn:
            self._failed.pop((account, address), None)


def _pause_s(count: int) -> float:
    return 0.0 if count < FREE else min(LONGEST_S, 2.0 ** (count - FREE))
