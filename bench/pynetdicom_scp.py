"""A durable C-STORE SCP in pynetdicom's own way: python -m bench.pynetdicom_scp PORT FOLDER."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian
from pynetdicom import AE, evt
from pynetdicom.sop_class import Verification


def main() -> None:
    """Listen until killed."""
    port, folder = int(sys.argv[1]), Path(sys.argv[2])

    def store(event: Any) -> int:
        request = event.request
        with open(folder / f"{request.AffectedSOPInstanceUID}.dcm", "wb") as file:
            file.write(event.encoded_dataset())
            file.flush()
            os.fdatasync(file.fileno())
        return 0x0000

    ae = AE(ae_title="SCANSIDE")
    ae.maximum_pdu_size = 131072
    ae.add_supported_context(CTImageStorage, ExplicitVRLittleEndian)
    ae.add_supported_context(Verification)
    ae.start_server(("127.0.0.1", port), evt_handlers=[(evt.EVT_C_STORE, store)])


if __name__ == "__main__":
    main()
