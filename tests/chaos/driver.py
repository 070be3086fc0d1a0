"""A driver as a process of its own: ``python driver.py ADDRESS TILTS OUT CONFIG-JSON``."""

import json
import sys

from ddgm_dist import journal
from ddgm_dist.engine.faults import Limits
from ddgm_dist.engine.ray import RayEngine
from ddgm_dist.engine.ray_dispatch import Patience
from ddgm_dist.reconstruct import reconstruct


def main() -> None:
    journal.FLUSH_SECONDS = 0.0  # a driver that is killed has told all it did
    address, tilts, out, config = sys.argv[1:]
    engine = RayEngine(
        address,
        patience=Patience(start=120, stall=30, probe=10, pulse=0.2, drain=0.3, resize=0.5),
        limits=Limits(losses=100, tile_losses=100),
    )
    reconstruct(tilts, out, json.loads(config), engine)
    print("driver: whole", flush=True)


if __name__ == "__main__":
    main()
