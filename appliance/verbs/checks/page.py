"""The check of the page at the bedside: it listens, its certificate lasts, somebody may log in."""

from __future__ import annotations

import time

from appliance.errors import ScansideError
from appliance.settings import Web
from appliance.store.lock import is_held
from appliance.verbs.checks.check import PATIENCE_S, Check, Device

NAME = "page"
LEAST_DAYS = 30.0
"""A certificate that ends sooner is to be renewed now."""
SECONDS_A_DAY = 86400.0


def page(device: Device) -> Check:
    """The page can be opened by who may see it, or nobody wants one."""
    from appliance.verbs.checks import reach  # noqa: PLC0415

    web = device.settings.web
    if not web.enabled:
        return Check(name=NAME, ok=True, text="there is none ([web] enabled = false)")
    text = f"{web.host}:{web.port}"
    if (wrong := _certificate(device, web)) is not None and wrong[1]:
        return Check(name=NAME, ok=False, text=f"{text}: {wrong[0]}", remedy=wrong[1])
    if not is_held(device.settings.state, "web"):
        problem = reach.bindable(web.host, web.port)
        if problem is not None:
            return Check(
                name=NAME,
                ok=False,
                text=f"{text}: {problem.strerror}",
                remedy=device.setting("web", "host or port: this one cannot be listened at"),
            )
        text += " is free (web is not running)"
    elif not reach.answers(_asked(web), web.port, PATIENCE_S):
        return Check(
            name=NAME,
            ok=False,
            text=f"{text}: the stage runs, and nothing answers there",
            remedy="Were the settings changed? Type: systemctl restart 'scanside-web@*'",
        )
    if wrong is not None:
        text += f"; {wrong[0]}"
    return _readers(device, text)


def _readers(device: Device, text: str) -> Check:
    """Whether anybody may log in."""
    from appliance.web.access import link  # noqa: PLC0415
    from appliance.web.access.accounts import Accounts  # noqa: PLC0415

    try:
        count = len(Accounts(device.settings.state).all())
        display = link.display(device.settings.state) is not None
    except ScansideError as e:
        return Check(name=NAME, ok=False, text=e.text, remedy=e.remedy)
    if not count and not display:
        return Check(
            name=NAME,
            ok=False,
            text=f"{text}; nobody has an account yet",
            remedy="Type: scanside web user add NAME --role technologist",
        )
    screen = ", and the attached display" if display else ""
    return Check(name=NAME, ok=True, text=f"{text}; {count} accounts{screen}")


def _certificate(device: Device, web: Web) -> tuple[str, str] | None:
    """How long the certificate lasts, and what to do, empty where nothing is; None without TLS."""
    from cryptography import x509  # noqa: PLC0415

    if web.tls is None:
        return None
    line = device.setting("web.tls", "certificate")
    try:
        found = x509.load_pem_x509_certificate(web.tls.certificate.read_bytes())
    except (OSError, ValueError) as e:
        why = e.strerror if isinstance(e, OSError) else "it is no certificate in PEM"
        return f"{web.tls.certificate}: {why}", f"Name a PEM file that this user can read: {line}."
    days = (found.not_valid_after_utc.timestamp() - time.time()) / SECONDS_A_DAY
    text = f"its certificate ends in {days:.0f} days"
    if days < LEAST_DAYS:
        return text, f"Renew {web.tls.certificate}; the stage takes the new one without a start."
    return text, ""


def _asked(web: Web) -> str:
    return {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(web.host, web.host)  # noqa: S104 - asked only
