"""The exam beside an earlier one, on the page of its study.

GET  /comparison/{comparison}/{pair}/{when}    PNG: the three planes of a pair in one exam
POST /pair                                     that a pair is right, or wrong
"""

from appliance.web.compared.routes import ROUTES, shown

__all__ = ["ROUTES", "shown"]
