"""Writes finished tiles, each followed by its receipt, and mean and deviation of several samples."""

from __future__ import annotations

import contextlib
import threading
import time

import numpy as np
from numpy.typing import NDArray

from ddgm_dist.core.box import Box
from ddgm_dist.core.view_sums import ViewSums
from ddgm_dist.errors import InputError, StorageError
from ddgm_dist.planning.tiling import Tile
from ddgm_dist.records.json_files import problem_dir
from ddgm_dist.records.receipts import RECEIPTS, SAMPLE_RECEIPTS, receipt_box, receipt_fit
from ddgm_dist.records.result import sample_place, std_place
from ddgm_dist.records.run_record import RunRecord
from ddgm_dist.tile.events import Receipt, Timer
from ddgm_dist.tile.host import give_back_memory
from ddgm_dist.tile.job import Job
from ddgm_dist.tile.moments import Moments
from ddgm_dist.volumes.store import VolumeStore, open_volume_store

__all__ = ["TileWriter"]

Floats = NDArray[np.float32]


class TileWriter:
    """Writes tiles of one job; safe to call from several threads.

    A single sample is the volume itself. Each of several samples has a volume and receipts of its own;
    :meth:`combine` makes mean and standard deviation of them.

    Parameters
    ----------
    job
        Gives the output store, the plan and the problem's hash.
    worker
        Name that goes into receipts.
    """

    def __init__(self, job: Job, worker: str) -> None:
        self.job, self.worker = job, worker
        self.record = RunRecord(job.out)
        self.out = open_volume_store(job.out, mode="r+")
        self.several = job.plan.samples > 1
        self._stores: dict[str, VolumeStore] = {}
        self._lock = threading.Lock()

    def written(self, tile: Tile, *, combined: bool = False) -> Receipt | None:
        """The receipt of a tile that is written already, by any worker; None if it is not.

        Parameters
        ----------
        tile
            A tile of the plan.
        combined
            True for a tile of mean and deviation.
        """
        kind = RECEIPTS if combined else self._kind
        found, box = self.record.receipt(tile.name, self.job.digest, kind), tile.write_box
        if found is None or receipt_box(found) != box:  # the plan cuts otherwise
            return None
        stores = [self.out, self._std()] if combined else [self._store(tile)]
        if not all(store.has(box) for store in stores):
            return None
        work = 0 if combined else box.size * self.job.plan.iterations
        return Receipt(tile.name, found["digest"], found["seconds"], found["worker"], work=work)

    def write(
        self, tile: Tile, values: Floats, timer: Timer, began: float, fit: ViewSums | None = None
    ) -> Receipt:
        """Write the voxels a tile owns, in the data's unit, and then the receipt.

        Parameters
        ----------
        tile, values
            The tile, and its voxels.
        timer, began
            Its times until now, and when its work began, seconds since the epoch.
        fit
            Sums over its samples, which the receipt keeps.

        Raises
        ------
        OutputReplacedError
            The output belongs to another problem, whose shards have the same names.
        """
        store, box = self._store(tile), tile.write_box
        self.record.check(self.job.digest)  # as late as possible: nothing locks the shards
        digest = store.write(box, values)
        timer.lap("write")
        work = box.size * self.job.plan.iterations
        receipt = Receipt(tile.name, digest, timer.seconds, self.worker, began, work)
        sample = {"sample": tile.sample} if self.several else {}
        self._record(receipt, box, self._kind, fit, **sample)
        return receipt

    def combine(self, tile: Tile) -> Receipt:
        """Write mean and standard deviation over all samples of a tile's voxels, then the receipt.

        Samples are added in their order, so the result does not depend on the worker or the time. One
        row of shards is read at a time: what is held besides the results does not grow with the tile.

        Raises
        ------
        StorageError
            Voxels of a sample are lost or damaged. Their receipts are then deleted, so that a restarted
            run solves for them again.
        OutputReplacedError
            The output belongs to another problem.
        """
        began, timer, box = time.time(), Timer(), tile.write_box
        mean, std = np.empty(box.shape, np.float32), np.empty(box.shape, np.float32)
        for part in _strips(box, self.out.layout.shard[1]):
            moments = Moments(part.shape)
            for sample in range(self.job.plan.samples):
                moments.add(self._sample(sample, part))
                timer.lap("read")
            inside = part.slices(box.start)
            mean[inside], std[inside] = moments.mean(), moments.std()
            timer.lap("other")
        self.record.check(self.job.digest)
        deviation = self._std().write(box, std)
        digest = self.out.write(box, mean)
        timer.lap("write")
        receipt = Receipt(tile.name, digest, timer.seconds, self.worker, began)
        self._record(receipt, box, RECEIPTS, self._fit_of_samples(tile), std=deviation)
        give_back_memory()
        return receipt

    @property
    def _kind(self) -> str:
        return SAMPLE_RECEIPTS if self.several else RECEIPTS

    def _record(
        self, receipt: Receipt, box: Box, kind: str, fit: ViewSums | None, **more: int | str
    ) -> None:
        self.record.add_receipt(
            {
                **receipt.to_dict(),
                **more,
                **({} if fit is None else {"fit": fit.to_dict()}),
                "start": box.start,
                "stop": box.stop,
                "problem": self.job.digest,
            },
            kind,
        )

    def _fit_of_samples(self, tile: Tile) -> ViewSums | None:
        """Sums over all samples of a place; None if the receipt of one is lost, or of another cut."""
        sums: ViewSums | None = None
        for sample in range(self.job.plan.samples):
            name = f"s{sample:04d}-{tile.place}"
            found = self.record.receipt(name, self.job.digest, SAMPLE_RECEIPTS)
            fit = None if found is None else receipt_fit(found)
            if found is None or fit is None or receipt_box(found) != tile.write_box:
                return None
            sums = fit if sums is None else sums + fit
        return sums

    # -- stores ---------------------------------------------------------------------------------

    def _store(self, tile: Tile) -> VolumeStore:
        """The volume that a tile is written to."""
        return self._opened(f"w{tile.sample}") if self.several else self.out

    def _std(self) -> VolumeStore:
        return self._opened("std")

    def _opened(self, name: str) -> VolumeStore:
        """A volume, opened once: ``std``, sample 3 to write (``w3``) or to read (``r3``)."""
        with self._lock:
            if name not in self._stores:
                out, digest = self.job.out, self.job.digest
                if name == "std":
                    store = open_volume_store(std_place(out), "r+")
                else:
                    place = sample_place(out, digest, int(name[1:]))
                    # Lost voxels must not read as NaN: they would go into the mean.
                    reading = name[0] == "r"
                    store = open_volume_store(place, "r" if reading else "r+", complete=reading)
                self._stores[name] = store
            return self._stores[name]

    def _sample(self, sample: int, box: Box) -> Floats:
        try:
            return self._opened(f"r{sample}").read(box)
        except (StorageError, InputError) as error:
            self._revoke(sample, box)
            raise StorageError(
                f"sample {sample} cannot be combined with the others: {error}; run the same command "
                "again, and what is lost is solved for again"
            ) from error

    def _revoke(self, sample: int, box: Box) -> None:
        """Delete the receipts that cover unreadable voxels, of any cut."""
        with contextlib.suppress(OSError, StorageError):
            for receipt in self.record.receipts(self.job.digest, SAMPLE_RECEIPTS):
                there = receipt_box(receipt)
                if receipt.get("sample") == sample and there and there.intersection(box):
                    folder = problem_dir(SAMPLE_RECEIPTS, self.job.digest)
                    self.record.delete(f"{folder}/{receipt['tile']}")


def _strips(box: Box, rows: int) -> list[Box]:
    """Parts of a box, of so many rows each."""
    (z0, y0, x0), (z1, y1, x1) = box.start, box.stop
    return [Box((z0, y, x0), (z1, min(y + rows, y1), x1)) for y in range(y0, y1, rows)]
