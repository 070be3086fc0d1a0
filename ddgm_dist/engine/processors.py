"""What a problem is computed with: another kind of processor rounds otherwise, and that is told.

Kinds that have worked on a problem are kept beside its record, so that a run that is gone on with
elsewhere is told of as well.
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
    """Kind of what is computed with: instructions of the CPU, and the GPU's name if there is one."""
    cpu = str(torch.backends.cpu.get_cpu_capability())
    return f"{torch.cuda.get_device_name(device)}, {cpu}" if device.type == "cuda" else cpu


def mixture(
    record: RunRecord, problem: str, found: Mapping[str, str], worker: str
) -> FaultEvent | None:
    """What to tell of kinds of processor that begin to work on a problem; None if it is the first.

    Parameters
    ----------
    record, problem
        Where it is kept which have worked already; hash of the problem.
    found
        Kinds that begin, with the node of each.
    worker
        One of them.
    """
    known: dict[str, str] = {}
    new: list[str] = []

    def joined(told: Any) -> dict[str, str] | None:
        known.clear()
        if isinstance(told, dict):
            known.update({str(kind): str(node) for kind, node in told.items()})
        new[:] = [kind for kind in found if kind not in known]
        known.update({kind: found[kind] for kind in new})
        return dict(known) if new else None

    with contextlib.suppress(StorageError):  # it is only for people
        record.update_json(problem_dir("processors", problem), joined)
    if not new or len(known) < 2:
        return None
    kinds = ", ".join(f"{kind} on node {node}" for kind, node in known.items())
    return FaultEvent(
        kind="mixed-processors",
        worker=worker,
        tile="",
        action="go on",
        detail=f"the volume is computed on different processors ({kinds}): results agree to rounding, "
        "that of bfloat16 where one of them has it and another does not; not bit for bit",
        time=time.time(),
    )
