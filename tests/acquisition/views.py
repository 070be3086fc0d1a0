"""Sources of views for tests: workers import this module, so it needs numpy only."""

import os
import signal
import time
from pathlib import Path
from typing import Any

import numpy as np

from ddgm_dist.core.box import Box
from ddgm_dist.errors import InputError


class ArrayViews:
    """Views from a file; what is read is noted in another, by all processes.

    Something happens where a box that is read starts at ``at``: ``kill`` ends the process that reads,
    ``parent`` the one that started it; the others raise an error.
    """

    def __init__(
        self,
        data: np.ndarray,
        folder: Path,
        *,
        by_view: bool,
        at: tuple[int, int, int] | None = None,
        what: str = "",
    ) -> None:
        folder.mkdir(exist_ok=True)
        self.file, self.notes, self.by_view = folder / "data.npy", folder / "read.txt", by_view
        self.shape, self.at, self.what = data.shape, at, what
        np.save(self.file, data)

    def read(self, box: Box) -> Any:
        with self.notes.open("a") as notes:
            notes.write(f"{box.start} {box.stop}\n")
        if box.start == self.at:
            self.happen()
        return np.load(self.file, mmap_mode="r")[box.slices()].astype(np.float32)

    def happen(self) -> None:
        if self.what == "refuse":
            raise InputError("source", "views", "cannot be read")
        if self.what == "interrupt":
            raise KeyboardInterrupt
        victim = os.getpid() if self.what == "kill" else os.getppid()
        os.kill(victim, signal.SIGKILL)
        time.sleep(30)

    def reads(self) -> list[str]:
        """Boxes that have been read since this was last asked."""
        found = self.notes.read_text().splitlines() if self.notes.exists() else []
        self.notes.unlink(missing_ok=True)
        return found
