"""The coding scheme of our own, which a document declares (PS3.3 C.12.1.1.7)."""

from typing import Final

SCHEME: Final = "99SCANSIDE"
