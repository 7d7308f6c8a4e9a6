"""Feedback of readers on what was found, and what follows of it for the threshold of a bundle.

    views     pure: a report and what was said of it -> what a page shows
    chart     pure: a curve -> the lines of a drawing
    routes    the pages: ROUTES, and `shown` for the page of a study

What an act is and what counts of them: results/feedback.py. The curve: results/operating.py. Where
they are kept: store/journal/feedback.py.
"""

from appliance.web.feedback.routes import ROUTES, shown

__all__ = ["ROUTES", "shown"]
