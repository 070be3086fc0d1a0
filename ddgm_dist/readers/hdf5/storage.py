"""Where the values of an HDF5 dataset lie, and which of them are there.

HDF5 reads fill values, and says nothing, where a source of a virtual dataset is missing, where an
external file is too short, and where a chunk was never written. All three are looked for here.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ddgm_dist.errors import InputError
from ddgm_dist.readers.hdf5.file import open_h5
from ddgm_dist.readers.hdf5.filters import load_filters

if TYPE_CHECKING:
    import h5py

__all__ = ["Storage", "find_storage"]

# Virtual datasets of virtual datasets: most of them in a row.
_DEEP = 8
# Numbered sources that are looked for behind the last one.
_BEHIND = 16


@dataclass
class Storage:
    """Files and chunks that a dataset is made of.

    Attributes
    ----------
    files
        The files that its values lie in.
    chunks, missing
        Chunks that it has by its shape, and those that were never written.
    uncovered
        Values that no source of a virtual dataset covers.
    notes
        Sentences about the above.
    """

    files: dict[Path, None] = field(default_factory=dict)
    chunks: int = 0
    missing: int = 0
    uncovered: int = 0
    notes: list[str] = field(default_factory=list)


def find_storage(dataset: h5py.Dataset, name: str, axis: int = 0) -> Storage:
    """Look up where a dataset's values lie.

    Parameters
    ----------
    dataset
        The dataset.
    name
        Its path in its file, for messages.
    axis
        The axis that counts images.

    Raises
    ------
    InputError
        A file that it refers to is missing, unreadable or too short; nothing was ever written to it;
        or its compression is not known.
    """
    found = Storage()
    _add(found, dataset, f"{dataset.file.filename}:{name}", 0)
    if found.missing:
        note = f"{name}: {found.missing} of {found.chunks} chunks were never written"
        note += " and read as fill values"
        if not dataset.is_virtual:
            note += _images_without_chunks(dataset, axis)
        found.notes.append(note)
    if found.uncovered:
        found.notes.append(
            f"{name}: no source covers {found.uncovered} of its {dataset.size} values, which read as "
            "fill values"
        )
    return found


def _add(found: Storage, dataset: h5py.Dataset, where: str, depth: int) -> None:
    import h5py

    parent = Path(dataset.file.filename)
    found.files.setdefault(parent)
    load_filters(dataset, where)
    layout = dataset.id.get_create_plist().get_layout()
    if dataset.is_virtual:
        if depth > _DEEP:
            raise InputError("source", where, "is a virtual dataset of itself")
        _add_sources(found, dataset, where, depth)
    elif dataset.external:
        _add_external(found, dataset, where)
    elif layout == h5py.h5d.CHUNKED:
        chunks = math.prod(-(-n // c) for n, c in zip(dataset.shape, dataset.chunks, strict=True))
        written = dataset.id.get_num_chunks()
        found.chunks += chunks
        found.missing += chunks - written
        if chunks and not written:
            raise _never_written(where)
    elif layout == h5py.h5d.CONTIGUOUS and dataset.size and dataset.id.get_offset() is None:
        raise _never_written(where)


def _never_written(where: str) -> InputError:
    return InputError(
        "source",
        where,
        "has a shape and no values: nothing was ever written to it",
        "the acquisition ended early, or the values lie in another dataset",
    )


def _images_without_chunks(dataset: h5py.Dataset, axis: int) -> str:
    """The images of which no chunk was written, as the rest of a sentence."""
    there: set[int] = set()
    dataset.id.chunk_iter(lambda chunk: there.add(chunk.chunk_offset[axis]))
    step, count = dataset.chunks[axis], dataset.shape[axis]
    gone = [i for i in range(count) if i - i % step not in there]
    if not gone:
        return ""
    runs = f"{gone[0]} to {gone[-1]}" if gone[-1] - gone[0] + 1 == len(gone) else f"from {gone[0]}"
    return f": {len(gone)} of {count} images have none, {runs} (counted from 0)"


def _add_external(found: Storage, dataset: h5py.Dataset, where: str) -> None:
    left = dataset.size * dataset.dtype.itemsize
    for name, offset, size in dataset.external:
        # HDF5 looks for it from the working folder, unless this variable names another one.
        prefix = os.environ.get("HDF5_EXTFILE_PREFIX", "")
        prefix = prefix.replace("${ORIGIN}", str(Path(dataset.file.filename).parent))
        file = Path(prefix) / name if prefix else Path(name)
        part = min(left, size)
        if not file.is_file():
            raise InputError("source", where, f"lies in the file {name}, which is missing")
        have = file.stat().st_size - offset
        if have < part:
            why = f"lies in the file {name}, which is truncated: {have} bytes of {part}"
            raise InputError("source", where, why, "copy it again")
        found.files.setdefault(file.resolve())
        left -= part


def _add_sources(found: Storage, dataset: h5py.Dataset, where: str, depth: int) -> None:
    parent = Path(dataset.file.filename)
    covered = 0
    for source in dataset.virtual_sources():
        count = _points(source.vspace)
        covered += dataset.size if count is None else count
        for block in _blocks(source, dataset.shape, parent):
            name, inner = _with_block(source.file_name, block), _with_block(source.dset_name, block)
            file = _source_file(name, parent)
            if file is None:
                raise InputError(
                    "source",
                    where,
                    f"is a virtual dataset, and its source {name} is missing",
                    "copy it beside this file: HDF5 would read fill values in its place",
                )
            with open_h5(file) as opened:
                try:
                    held = opened[inner]
                    shape = held.shape
                except (KeyError, AttributeError) as error:
                    why = f"is a virtual dataset, and its source {name} has no dataset {inner}"
                    raise InputError("source", where, why) from error
                _refuse_too_small(source, shape, count, f"{name}:{inner}", where)
                _add(found, held, f"{file}:{inner}", depth + 1)
    found.uncovered += max(0, dataset.size - covered)


def _points(space: Any) -> int | None:
    """Number of values that a selection has; None where it grows with its source."""
    try:
        return int(space.get_select_npoints())
    except (RuntimeError, ValueError):
        return None


def _blocks(source: Any, shape: tuple[int, ...], parent: Path) -> Iterator[int]:
    """Numbers of the files or datasets that ``%b`` in a name stands for; else one."""
    if "%b" not in source.file_name + source.dset_name:
        yield 0
        return
    start, stride, _, size = source.vspace.get_regular_hyperslab()
    # The axis along which the selection repeats without an end.
    counts = [-(-(n - a) // s) for n, a, s in zip(shape, start, stride, strict=True)]
    axis = next((i for i, (n, b) in enumerate(zip(shape, size, strict=True)) if b < n), 0)
    # HDF5 takes the first that is missing for the end: look whether there are any behind it.
    stop = max(1, counts[axis])
    behind = (_with_block(source.file_name, stop + i) for i in range(1, _BEHIND))
    if "%b" in source.file_name and any(_source_file(name, parent) for name in behind):
        stop += 1
    yield from range(stop)


def _with_block(name: str, block: int) -> str:
    return name.replace("%b", str(block)).replace("%%", "%")


def _refuse_too_small(
    source: Any, shape: tuple[int, ...], count: int | None, name: str, where: str
) -> None:
    try:
        stop = source.src_space.get_select_bounds()[1]
    except (RuntimeError, ValueError):  # all of it
        short = "%b" not in source.file_name + source.dset_name
        short = short and count is not None and math.prod(shape) < count
    else:
        short = len(stop) != len(shape) or any(b >= n for b, n in zip(stop, shape, strict=True))
    if short:
        raise InputError(
            "source",
            where,
            f"is a virtual dataset, and its source {name} is smaller than stated: {shape}",
            "the acquisition ended early, or the source is another one",
        )


def _source_file(name: str, parent: Path) -> Path | None:
    """The file that HDF5 opens for a source: the first that exists, in HDF5's order of search."""
    if name == ".":
        return parent
    asked = Path(name)
    candidates = [asked] if asked.is_absolute() else []
    inner = asked.name if asked.is_absolute() else name
    origin = str(parent.absolute().parent)
    prefixes = filter(None, os.environ.get("HDF5_VDS_PREFIX", "").split(":"))
    candidates += [Path(prefix.replace("${ORIGIN}", origin)) / inner for prefix in prefixes]
    candidates += [Path(origin) / inner, Path(inner), parent.resolve().parent / inner]
    return next((file.absolute() for file in candidates if file.is_file()), None)
