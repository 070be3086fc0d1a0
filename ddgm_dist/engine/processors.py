"""Kinds of processor that compute a problem: another kind rounds differently, which is reported.

Kinds that have worked on a problem are kept beside its record. So a run that is resumed on another
machine is reported as well.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Mapping
from typing import Any

import torch

from ddgm_dist.errors import StorageError
from ddgm_dist.records.json_files import problem_dir
from ddgm_dist.records.run_record import RunRecord
from ddgm_dist.tile.events import FaultEvent

__all__ = ["mixture", "processor"]


def processor(device: torch.device) -> str:
    """Kind of processor: the instruction set of the CPU, and the GPU's name if there is one."""
    cpu = str(torch.backends.cpu.get_cpu_capability())
    return f"{torch.cuda.get_device_name(device)}, {cpu}" if device.type == "cuda" else cpu


def mixture(
    record: RunRecord, problem: str, found: Mapping[str, str], worker: str
) -> FaultEvent | None:
    """The event to report when another kind of processor begins to work on a problem.

    Parameters
    ----------
    record, problem
        Record that keeps the kinds which have worked already; hash of the problem.
    found
        Kinds that begin, with the node of each.
    worker
        Name of a worker of such a kind.

    Returns
    -------
    FaultEvent or None
        None if all have been of one kind, or if the kinds in ``found`` have worked before.
    """
    known: dict[str, str] = {}
    new: list[str] = []

    def add(stored: Any) -> dict[str, str] | None:
        known.clear()
        if isinstance(stored, dict):
            known.update({str(kind): str(node) for kind, node in stored.items()})
        new[:] = [kind for kind in found if kind not in known]
        known.update({kind: found[kind] for kind in new})
        return dict(known) if new else None

    with contextlib.suppress(StorageError):  # the note only informs
        record.update_json(problem_dir("processors", problem), add)
    if not new or len(known) < 2:
        return None
    kinds = ", ".join(f"{kind} on node {node}" for kind, node in known.items())
    return FaultEvent(
        kind="mixed-processors",
        worker=worker,
        tile="",
        action="continue",
        detail=f"the volume is computed on different processors ({kinds}): results agree to rounding, "
        "not bit for bit; to that of bfloat16 where only some of them have it",
        time=time.time(),
    )
