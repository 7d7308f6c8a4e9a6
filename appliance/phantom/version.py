"""The version of the phantom.

Bundles carry what was found in the phantom when they were packed (Manifest.phantom), and are proved
by finding it again. Whoever changes a pixel of the phantom raises the version: then nobody holds a
bundle to what it found in another image. A test has the digest of the pixels.
"""

from __future__ import annotations

from typing import Final

VERSION: Final = 1
