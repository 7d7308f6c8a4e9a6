"""`scanside site-key [--accept]`: which key makes the pseudonyms; is it the known one?"""

from __future__ import annotations

import os

from appliance.settings import Settings
from appliance.store import site_key
from appliance.store.files import DISK
from appliance.store.journal import Journal
from appliance.store.priors import Priors


def show(settings: Settings) -> str:
    """One line; StateUnusable where the key is not the one that the audit knows."""
    there = (settings.state / site_key.NAME).exists()
    if not there and not site_key.is_used(settings.state):
        return "no site key yet: the first stage that needs one makes it"
    return f"site key {site_key.fingerprint(site_key.site_key(settings.state))}"


def accept(settings: Settings) -> str:
    """Have the key that lies there count from now on, or a new one; one line. It is audited.

    Entries of earlier exams that another key named are deleted: no id gives their keys any more.
    """
    DISK.make_folder(settings.state)
    with Journal.open(settings.state) as journal:
        before = site_key.of_audit(journal)
        found = site_key.accept(journal, settings.state, actor := f"uid {os.getuid()}")
        if gone := Priors(settings.state).of_key(found):
            journal.audit.add(actor, "priors_deleted", why="site_key", count=gone)
    if found == before:
        return f"site key {found} counted already; nothing is changed"
    return f"site key {found} counts from now on; start the stages again"
