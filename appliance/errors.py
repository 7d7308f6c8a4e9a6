"""Errors, by what the machine does next.

    ScansideError                 stable code, text, remedy
    ├── Refuse                    the input is not to be trusted: answer with a reason, go on
    │   ├── InstanceRefused       one SOP instance; carries the DIMSE status of the answer
    │   ├── SeriesRefused         one series; carries the Reason that the report will show
    │   ├── BundleRefused         one bundle; what ran before goes on running
    │   └── ReleaseRefused        a release, or the repository that it comes from; nothing changes
    ├── Retry                     something outside is away: keep everything, try again later
    │   ├── BrokerAway
    │   └── PeerAway
    ├── Quarantine                this input breaks us: put it aside with its bytes, report `failed`
    │   └── Poisoned
    └── Halt                      the appliance cannot go on until a person acts
        ├── SettingsInvalid
        ├── StateUnusable         disk full, read-only, journal of a newer version
        └── BackendUnavailable

Every error says in `remedy` what a person should do now. No foreign exception crosses a stage:
the module that calls a library raises one of these `from` it. `except ScansideError` is enough
everywhere but in the outermost loop of each verb.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from appliance.report import Reason


class ScansideError(Exception):
    """An error with a stable `code` (snake_case, never reworded) and a `remedy` for a person."""

    code: str = "error"
    remedy: str = "Run `scanside doctor` and read the log of the stage."

    def __init__(self, text: str, *, remedy: str | None = None, code: str | None = None) -> None:
        super().__init__(text)
        self.text = text
        if remedy is not None:
            self.remedy = remedy
        if code is not None:
            self.code = code

    def one_line(self) -> str:
        """The error as one line for a terminal or a log: text, then remedy."""
        return f"{self.text} [{self.code}] {self.remedy}"


class Refuse(ScansideError):
    """The input is not to be trusted. Answer with the reason and go on."""

    code = "refused"


class InstanceRefused(Refuse):
    """One SOP instance is not stored; `status` is the DIMSE status of the answer (PS3.4 B.2.3)."""

    code = "instance_refused"

    def __init__(
        self, text: str, *, status: int, remedy: str | None = None, code: str | None = None
    ) -> None:
        super().__init__(text, remedy=remedy, code=code)
        self.status = status


class SeriesRefused(Refuse):
    """One series is not analysed; `reason` is what its report will say."""

    code = "series_refused"

    def __init__(self, reason: Reason) -> None:
        super().__init__(reason.text, remedy=reason.remedy, code=reason.code.value)
        self.reason = reason


class BundleRefused(Refuse):
    """A bundle is not installed or not loaded. What ran before goes on running."""

    code = "bundle_refused"
    remedy = "Fetch the bundle again, or ask the fleet team for one for this appliance version."


class ReleaseRefused(Refuse):
    """A release, or a repository of releases, is not taken. What was there before stays."""

    code = "release_refused"
    remedy = "Fetch the release again, or run `python -m compile release check` on its repository."


class Retry(ScansideError):
    """Something outside is away. Keep everything and try again later."""

    code = "retry"


class BrokerAway(Retry):
    code = "broker_away"
    remedy = "Check [mqtt] host and port, and that the broker runs."


class PeerAway(Retry):
    code = "peer_away"
    remedy = "Check AE title, host and port of the peer, and that it allows this AE title."


class Quarantine(ScansideError):
    """This input breaks a stage: it is put aside with its bytes and reported as `failed`."""

    code = "quarantine"


class Poisoned(Quarantine):
    code = "poisoned"


class Halt(ScansideError):
    """The appliance cannot go on until a person acts."""

    code = "halt"


class SettingsInvalid(Halt):
    code = "settings_invalid"
    remedy = "Correct the named line of the settings file; `scanside doctor` checks it."


class StateUnusable(Halt):
    code = "state_unusable"
    remedy = "Check that the state folder exists, is writable and has free space."


class BackendUnavailable(Halt):
    code = "backend_unavailable"
    remedy = "Install the backend's library (pip install 'scanside[openvino]' or onnxruntime)."


def told(error: Exception) -> str:
    """An error as a log may show it where a header may stand in its text: by its kind and place,
    and by its text only where that is ours."""
    if isinstance(error, ScansideError):
        return error.one_line()
    where = error.__traceback__
    while where is not None and where.tb_next is not None:
        where = where.tb_next
    if where is None:
        return type(error).__name__
    file = where.tb_frame.f_code.co_filename.rpartition("/")[2]
    return f"{type(error).__name__} ({file}:{where.tb_lineno})"
