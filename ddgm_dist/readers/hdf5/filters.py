"""Compression of HDF5 datasets: filters that come with hdf5plugin are loaded where one is needed."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ddgm_dist.errors import InputError

if TYPE_CHECKING:
    import h5py

__all__ = ["load_filters"]


def load_filters(dataset: h5py.Dataset, where: str) -> None:
    """Load what decompresses a dataset.

    Raises
    ------
    InputError
        A filter is not available; the message has its number and its name.
    """
    import h5py

    layout = dataset.id.get_create_plist()
    filters = [layout.get_filter(i) for i in range(layout.get_nfilters())]
    if all(h5py.h5z.filter_avail(number) for number, *_ in filters):
        return
    hint = "write it with another compression (h5repack does that)"
    try:
        import hdf5plugin  # noqa: F401  (it registers its filters)
    except ImportError:
        hint = "install hdf5plugin"
    for number, _, _, name in filters:
        if not h5py.h5z.filter_avail(number):
            label = name.decode("utf-8", "replace").partition(";")[0] or "unnamed"
            why = f"is compressed by filter {number} ({label}), which is not installed"
            raise InputError("source", where, why, hint)
