"""Refuse names and links that lead out of a store."""

from __future__ import annotations

import os
import re
from pathlib import Path

from ddgm_dist.errors import InputError
from ddgm_dist.paths.place import ObjectPath, Place

__all__ = ["inner_name", "refuse_links"]


def inner_name(name: str, argument: str, store: str | Path | ObjectPath) -> str:
    """A name from a store's metadata, if it cannot lead out of the store.

    Raises
    ------
    InputError
        The name is absolute, or has ``..`` in it.
    """
    if re.fullmatch(r"[^/\\\0]+(/[^/\\\0]+)*", name) and not {".", ".."} & set(name.split("/")):
        return name
    raise InputError(
        argument,
        str(store),
        f"its metadata name a part {name!r}, which leads out of it",
        "do not trust it: whoever wrote it did so on purpose",
    )


def refuse_links(place: Place, argument: str) -> None:
    """Refuse a store with a link that leads out of it, or with an entry that is no file or folder.

    The store itself may be a link. No file is opened. Object stores have no links.

    Raises
    ------
    InputError
        Names the link and where it leads.
    """
    if isinstance(place, ObjectPath):
        return
    root = os.path.realpath(place)
    folders = [root]
    while folders:
        try:
            found = os.scandir(folders.pop())
        except OSError:
            continue  # deleted meanwhile, or unreadable: reading it will raise the error
        with found as entries:
            for entry in entries:
                if entry.is_symlink():
                    _check_link(entry.path, root, argument)
                elif entry.is_dir(follow_symlinks=False):
                    folders.append(entry.path)
                elif not entry.is_file(follow_symlinks=False) and Path(entry.path).exists():
                    inside = os.path.relpath(entry.path, root)
                    why = f"holds {inside}, which is neither a file nor a folder"
                    raise InputError(argument, root, why, "remove it")


def _check_link(path: str, root: str, argument: str) -> None:
    to = os.path.realpath(path)
    if not to.startswith(f"{root}{os.sep}"):
        raise InputError(
            argument,
            root,
            f"the link {os.path.relpath(path, root)} in it leads out of it, to {to}",
            "put there what it leads to, or make the whole store a link",
        )
