"""What a run learned from, by its checkpoint: no network is judged on a CT that it has seen."""

from __future__ import annotations

from training.errors import RunError
from training.learn.checkpoint import load_checkpoint
from training.read.folders import work_folder


def seen_by(run: str) -> list[str]:
    """The CTs that a run learned from; RunError where its checkpoint does not say."""
    path = work_folder(run) / "last.pt"
    hosts = str(load_checkpoint(path).get("knobs", {}).get("hosts", ""))
    if not hosts:
        raise RunError(f"{path} does not say which CTs it learned from: train it anew")
    return hosts.split(",")


def refuse_seen(host: str, run: str) -> None:
    """RunError where a run is to be judged on a CT that it learned from."""
    if host in seen_by(run):
        raise RunError(f"{run} learned from {host}: it cannot be judged on it")
