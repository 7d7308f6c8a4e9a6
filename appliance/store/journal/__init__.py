"""The journal: see `journal` for its rules, `schema.sql` for its tables."""

from appliance.store.journal.connect import JOURNAL_NAME
from appliance.store.journal.database import Manner
from appliance.store.journal.journal import Journal
from appliance.store.journal.reports import ANY

__all__ = ["ANY", "JOURNAL_NAME", "Journal", "Manner"]
