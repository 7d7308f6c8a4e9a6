"""A shelf with bundles for the verbs of `scanside bundle`."""

from __future__ import annotations

from rigs.shelves import factory, forge, key, make_shelf, networks, signed, state

__all__ = ["factory", "forge", "key", "make_shelf", "networks", "signed", "state"]
