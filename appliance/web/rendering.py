"""Templates of pages/ become HTML: escaped, in the language and theme of who looks.

Rules
- Everything is escaped; a value that is missing is an error (StrictUndefined).
- Each template is given: say, sign, asset, image_of, visitor (None without a login), csrf (""
  without one), language, languages, theme, path (of the request), notice.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response

from appliance.web.serving import Assets
from appliance.web.signs import sign
from appliance.web.site import Language, Look
from appliance.web.text import say
from appliance.web.views.place import image_of


def renderer(
    assets: Assets, languages: tuple[Language, ...]
) -> Callable[[Request, str, Mapping[str, Any]], Response]:
    """`Site.render`. A value `status` is also the status of the response (200 without it)."""
    environment = Environment(
        loader=PackageLoader("appliance.web", "pages"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.globals.update(
        asset=assets.address, sign=sign, image_of=image_of, languages=languages
    )
    speakers = {language: say.speaker(say.texts(language)) for language in say.LANGUAGES}

    def render(request: Request, name: str, values: Mapping[str, Any]) -> Response:
        look: Look = request.state.look
        who = getattr(request.state, "visitor", None)
        text = environment.get_template(name).render(
            {
                "say": speakers[look.language],
                "visitor": who,
                "csrf": who.csrf if who is not None else "",
                "language": look.language,
                "theme": look.theme,
                "path": request.url.path,
                **values,
            }
        )
        return HTMLResponse(text, values.get("status", 200))

    return render
