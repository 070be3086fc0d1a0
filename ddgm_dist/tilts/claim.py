"""The right to write a tilt-series store: a lease, and a place where nothing else is written."""

from __future__ import annotations

import contextlib
from collections.abc import Callable

from ddgm_dist.errors import StorageError
from ddgm_dist.paths.claim import SIDECAR, is_claim, prepare_output
from ddgm_dist.paths.files import delete, delete_folder, listdir
from ddgm_dist.paths.free_space import write_error
from ddgm_dist.paths.place import ObjectPath, Place
from ddgm_dist.records.lease import Lease
from ddgm_dist.records.replacement import Redirect, Replacement, pending, sweep
from ddgm_dist.tilts.record import folder_of

__all__ = ["Claim", "NewStore", "Resume", "claim_series"]

# Decides of an unfinished store, by its place, whether it is resumed.
Resume = Callable[[Place], bool]


class NewStore:
    """A store in an object store where there is none: nothing is replaced."""

    def __init__(self, place: ObjectPath, held: Lease) -> None:
        self.work, self.lease = place, held
        self._published = self._ended = False

    def publish(self, redirect: Redirect) -> None:
        """Keep the store, which its attribute has made whole."""
        self._published = True

    def discard(self) -> None:
        """Delete what was written, and release the lease."""
        if self._ended:
            return
        with contextlib.suppress(StorageError):
            self.lease.check()
            if not self._published:  # but for the lease
                delete_folder(folder_of(self.work))
                for name in listdir(self.work):
                    if name != SIDECAR:
                        delete_folder(self.work / name)
                        delete(self.work / name)
        self.release()

    def release(self) -> None:
        """Release the lease."""
        self._ended = True
        self.lease.release()


Claim = Replacement | NewStore


def claim_series(
    place: Place, *, overwrite: bool, resume: Resume | None = None
) -> tuple[Claim, bool]:
    """Claim a place for a new store.

    Parameters
    ----------
    place
        Place of the store.
    overwrite
        Replace a store that is there.
    resume
        Decides whether the unfinished store of a writer that was interrupted is resumed; else it is
        deleted.

    Returns
    -------
    claim, resumed
        Where to write, and whether an unfinished store is there.

    Raises
    ------
    InputError
        The output exists and ``overwrite`` is false, it is no store, or another process writes to it.
    StorageError
        The place cannot be written.
    """
    prepare_output(place, "out", overwrite=overwrite)
    lease = Lease(place)
    lease.acquire()
    swap, resumed = Replacement(place, lease), False
    try:
        # It may have been made before it was leased.
        prepare_output(place, "out", overwrite=overwrite)
        if isinstance(place, ObjectPath):
            if is_claim(place):
                return NewStore(place, lease), False
        elif resume is not None:
            sweep(place)
            left = pending(place)
            resumed = left is not None and resume(left)
        if resumed:
            swap.resume()
        else:
            swap.begin()
    except BaseException as error:
        swap.release()
        if isinstance(error, OSError):
            raise write_error(place, 4096, error) from error
        raise
    return swap, resumed
