"""The stack or the single images that a SerialEM metadata file describes."""

from __future__ import annotations

from pathlib import Path

from ddgm_dist.acquisition.companions import STACK_SUFFIXES
from ddgm_dist.acquisition.written_names import FolderNames, name_of
from ddgm_dist.errors import InputError
from ddgm_dist.readers.serialem.mdoc import Mdoc

__all__ = ["described_images", "described_stack", "stack_of_mdoc"]


def described_stack(path: Path, mdoc: Mdoc) -> Path | None:
    """The stack beside a metadata file that it describes; None where there is none.

    Parameters
    ----------
    path
        Path of the metadata file.
    mdoc
        Its content.
    """
    name = path.name.removesuffix(path.suffix)
    candidates = [name, *(f"{name}{s}" for s in STACK_SUFFIXES[:2])]
    if mdoc.image_file:
        candidates.insert(0, name_of(mdoc.image_file))
    folder = FolderNames(path.parent)
    # Exact names go first: another series may have a name that differs in case only.
    for named in (folder.find(c, exact=exact) for exact in (True, False) for c in candidates):
        if named is not None and named.suffix.lower() in STACK_SUFFIXES:
            return named
    return None


def described_images(path: Path, mdoc: Mdoc) -> list[Path]:
    """The images beside a metadata file that its sections name, in their order.

    Parameters
    ----------
    path
        Path of the metadata file.
    mdoc
        Its content.

    Raises
    ------
    InputError
        Some of them are not there.
    """
    files, missing = list[Path](), list[str]()
    folder = FolderNames(path.parent)
    for section in mdoc.sections:
        name = section.sub_frame_name or section.image or ""
        file = path.parent / name
        found = file if name and file.is_file() else folder.find(name_of(name))
        if found is not None:
            files.append(found)
        else:
            missing.append(name or f"the frame of section {section.z_value}")
    if missing:
        raise InputError(
            "source",
            str(path),
            f"names {len(mdoc.sections)} images, of which {len(missing)} are not beside it: "
            f"{', '.join(missing[:3])}{', ...' if len(missing) > 3 else ''}",
            "put the images, or the stack that was made of them, into the same folder",
        )
    return files


def stack_of_mdoc(mdoc: Path) -> Path:
    """The stack that an mdoc would describe."""
    name = mdoc.name.removesuffix(mdoc.suffix)
    return mdoc.with_name(name if Path(name).suffix.lower() in STACK_SUFFIXES else f"{name}.mrc")
