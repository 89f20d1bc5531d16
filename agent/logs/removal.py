"""Deleting a rotated log that is shipped: that very file, never another one that has its name by now."""

from __future__ import annotations

import os

from agent.engine.files import OWNED_LINKS, open_regular
from agent.logs.siblings import Listing, names_before


def remove(descriptor: int, root: str, relative: str) -> bool:
    """Take an open file out of the directory of `relative`, the name that it had; False where it has no name there
    that says that it was rotated.

    `root` and `relative` are as `open_regular` wants them: links in the latter are judged. A name is compared just
    before it goes; who swaps it in between may write in that directory anyway. Raises OSError.
    """
    found = os.fstat(descriptor)
    folder, before = os.path.split(relative)
    paths = Listing(os.path.join(root, folder)).of_inode(found.st_ino)
    rotated = [path for path in paths if _name(path) == before or before in names_before(_name(path))]
    for path in rotated:
        _check(found, root, os.path.join(folder, _name(path)))
        os.unlink(path)
    return bool(rotated)


def _check(found: os.stat_result, root: str, relative: str) -> None:
    """That the name leads to the open file. Raises OSError."""
    other = open_regular(root, relative, OWNED_LINKS)
    try:
        if not os.path.samestat(os.fstat(other), found):
            raise FileNotFoundError(f"{relative} is another file by now")
    finally:
        os.close(other)


def _name(path: str) -> str:
    return os.path.basename(path)
