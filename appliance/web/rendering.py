"""Templates of pages/ become HTML: escaped, in the language and theme of who looks.

Rules
- Everything is escaped; a value that is missing is an error (StrictUndefined).
- Each template is given: say, sign, asset, image_of, visitor (None without a login), csrf (""
  without one), language, languages, theme, path (of the request), notice.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response

from appliance.web.serving import Assets
from appliance.web.signs import sign
from appliance.web.site import Language, Look
from appliance.web.text import say
from appliance.web.views.place import image_of


class Renderer:
    """`Site.render` and `Site.prepare`. Safe for any number of threads."""

    def __init__(self, assets: Assets, languages: tuple[Language, ...]) -> None:
        self._environment = Environment(
            loader=PackageLoader("appliance.web", "pages"),
            autoescape=True,
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        self._environment.globals.update(
            asset=assets.address, sign=sign, image_of=image_of, languages=languages
        )
        self._speakers = {language: say.speaker(say.texts(language)) for language in say.LANGUAGES}
        self._once = threading.Lock()

    def __call__(self, request: Request, name: str, values: Mapping[str, Any]) -> Response:
        """A page. A value `status` is also the status of the response (200 without it)."""
        look: Look = request.state.look
        who = getattr(request.state, "visitor", None)
        text = self._environment.get_template(name).render(
            {
                "say": self._speakers[look.language],
                "visitor": who,
                "csrf": who.csrf if who is not None else "",
                "language": look.language,
                "theme": look.theme,
                "path": request.url.path,
                **values,
            }
        )
        return HTMLResponse(text, values.get("status", 200))

    def prepare(self) -> None:
        """Every template is compiled, in a thread, at the first call: otherwise the first page of a
        study takes 0.4 s."""
        if self._once.acquire(blocking=False):
            threading.Thread(target=self._compile, daemon=True).start()

    def _compile(self) -> None:
        for name in self._environment.list_templates():
            self._environment.get_template(name)
