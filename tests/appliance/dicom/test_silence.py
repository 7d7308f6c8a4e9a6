"""What libraries say of a header gets into no log."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import pytest

from appliance.dicom.silence import QUOTING, silence


@pytest.fixture
def loggers() -> Iterator[list[logging.Logger]]:
    """Of the libraries; as they were, afterwards."""
    found = [logging.getLogger(name) for name in QUOTING]
    before = [(one.propagate, one.handlers) for one in found]
    yield found
    for one, (propagate, handlers) in zip(found, before, strict=True):
        one.propagate, one.handlers = propagate, handlers


def test_a_line_that_quotes_a_header_gets_nowhere(
    loggers: list[logging.Logger],
    caplog: pytest.LogCaptureFixture,
    capsys: pytest.CaptureFixture[str],
) -> None:
    for one in loggers:
        one.error("DOE^JANE, before")
    assert "before" in caplog.text
    silence()
    silence()
    for one in loggers:
        one.error("DOE^JANE, after")
        one.getChild("below").error("DOE^JANE, after")
        assert len(one.handlers) == 1
    logging.getLogger("scanside.compare").error("ours")
    assert "ours" in caplog.text
    assert "after" not in caplog.text + "".join(capsys.readouterr())
