"""The transfer syntaxes that are taken and decoded (PS3.5 10, PS3.6 table A-1). Pure.

One table for two stages: `receive` accepts in a presentation context what stands here, and `work`
has a decoder for each compressed row (a test holds both to it). So nothing is acknowledged whose
pixels could only be refused afterwards; a sender whose offer has no row here sends the same images
in another syntax, as every sender has a native one (PS3.5 10.1).

The order is the one in which the acceptor chooses (PS3.8 9.3.3.2): native first, then lossless,
then what may lose.
"""

from __future__ import annotations

from dataclasses import dataclass

IMPLICIT_LE = "1.2.840.10008.1.2"
EXPLICIT_LE = "1.2.840.10008.1.2.1"
EXPLICIT_BE = "1.2.840.10008.1.2.2"
DEFLATED_LE = "1.2.840.10008.1.2.1.99"
RLE = "1.2.840.10008.1.2.5"
JPEG_BASELINE = "1.2.840.10008.1.2.4.50"
JPEG_EXTENDED = "1.2.840.10008.1.2.4.51"
JPEG_LOSSLESS = "1.2.840.10008.1.2.4.57"
JPEG_LOSSLESS_SV1 = "1.2.840.10008.1.2.4.70"
JPEG_LS = "1.2.840.10008.1.2.4.80"
JPEG_LS_NEAR = "1.2.840.10008.1.2.4.81"
JPEG_2000_LOSSLESS = "1.2.840.10008.1.2.4.90"
JPEG_2000 = "1.2.840.10008.1.2.4.91"
HTJ2K_LOSSLESS = "1.2.840.10008.1.2.4.201"
HTJ2K_LOSSLESS_RPCL = "1.2.840.10008.1.2.4.202"
HTJ2K = "1.2.840.10008.1.2.4.203"


@dataclass(frozen=True, slots=True)
class Syntax:
    """One transfer syntax of images."""

    uid: str
    name: str
    encapsulated: bool
    """Its pixels are codestreams in fragments (PS3.5 A.4)."""
    lossy: bool = False
    """It may lose: decoders differ by a grey level, so one alone decodes it."""


TABLE = (
    Syntax(EXPLICIT_LE, "Explicit VR Little Endian", encapsulated=False),
    Syntax(IMPLICIT_LE, "Implicit VR Little Endian", encapsulated=False),
    Syntax(EXPLICIT_BE, "Explicit VR Big Endian", encapsulated=False),
    Syntax(DEFLATED_LE, "Deflated Explicit VR Little Endian", encapsulated=False),
    Syntax(RLE, "RLE Lossless", encapsulated=True),
    Syntax(JPEG_LS, "JPEG-LS Lossless", encapsulated=True),
    Syntax(JPEG_LOSSLESS_SV1, "JPEG Lossless, first-order prediction", encapsulated=True),
    Syntax(JPEG_LOSSLESS, "JPEG Lossless", encapsulated=True),
    Syntax(HTJ2K_LOSSLESS, "High-Throughput JPEG 2000 Lossless", encapsulated=True),
    Syntax(HTJ2K_LOSSLESS_RPCL, "High-Throughput JPEG 2000 Lossless, RPCL", encapsulated=True),
    Syntax(JPEG_2000_LOSSLESS, "JPEG 2000 Lossless", encapsulated=True),
    Syntax(JPEG_LS_NEAR, "JPEG-LS Near-lossless", encapsulated=True, lossy=True),
    Syntax(JPEG_BASELINE, "JPEG Baseline", encapsulated=True, lossy=True),
    Syntax(JPEG_EXTENDED, "JPEG Extended", encapsulated=True, lossy=True),
    Syntax(HTJ2K, "High-Throughput JPEG 2000", encapsulated=True, lossy=True),
    Syntax(JPEG_2000, "JPEG 2000", encapsulated=True, lossy=True),
)
BY_UID = {row.uid: row for row in TABLE}

VIDEO = (
    *(f"1.2.840.10008.1.2.4.{n}" for n in range(100, 109)),
    *(f"1.2.840.10008.1.2.4.{n}.1" for n in range(100, 107)),
)
"""MPEG-2, MPEG-4 and HEVC (PS3.5 10.8 to 10.14): a study may hold a video. It is stored and set
aside, so no decoder is needed; it is not accepted for a class that is analysed."""
