"""Result of tuning: as a table, as JSON, as a configuration."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from ddgm_dist.tuning.candidates import LeftOut
from ddgm_dist.tuning.model_error import Doubts
from ddgm_dist.tuning.report import Row, to_table, write_config

__all__ = ["Tuning"]


@dataclass(frozen=True)
class Tuning:
    """Result of tuning.

    Attributes
    ----------
    config
        The configuration given, with the chosen settings; only keys that were given or tuned.
    rows
        Rows of the table: those tried on most blocks first, then by error.
    tilts, blocks, folds, seed
        Numbers of tilts, blocks and folds that it was tried on, and the seed.
    share
        Share of all directions that the tilts cover.
    calls, restorer_calls, seconds
        Denoiser calls and restorer calls it took; wall time.
    left_out
        Combinations of the grid that could not be tried, and why.
    doubts
        Signs that the ranking cannot be trusted, as held-out tilts share an error of the model.
    """

    config: Mapping[str, Any]
    rows: Sequence[Row]
    tilts: str
    blocks: int
    folds: int
    seed: int
    share: float
    calls: int
    seconds: float
    restorer_calls: int = 0
    left_out: tuple[LeftOut, ...] = ()
    doubts: Doubts = field(default_factory=Doubts)

    @property
    def chosen(self) -> Row:
        """Row of the chosen candidate."""
        return next(row for row in self.rows if row.chosen)

    def describe(self) -> str:
        """The table, for people."""
        return "\n".join([to_table(self.rows), "", *self.notes()])

    def notes(self) -> list[str]:
        """Lines that explain the figures."""
        row = self.chosen
        given = next(r for r in self.rows if not r.settings)
        lines = [
            f"chosen: {row.name}, score {row.error:.4f}, an estimate that ranks settings",
            f"({row.between:.4f} in the {self.share:.0%} of directions that were measured, "
            f"{row.beyond:.4f} next to the others)",
        ]
        if row is not given:
            spread = "" if given.deviation is None else f" +- {given.deviation:.4f}"
            lines.append(
                f"the settings as given differ from it by {given.difference:+.4f}{spread}, paired over "
                f"{given.blocks} blocks"
            )
        if self.doubts.warning is not None:
            lines.append(f"WARNING: {self.doubts.warning}")
        lines += [str(each) for each in self.left_out]
        return lines

    @property
    def trusted(self) -> bool:
        """False where held-out tilts share an error of the model, so that their ranking misleads."""
        return self.doubts.warning is None

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        return {
            "tilts": self.tilts,
            "config": dict(self.config),
            "blocks": self.blocks,
            "folds": self.folds,
            "seed": self.seed,
            "measured_share": self.share,
            "denoiser_calls": self.calls,
            "restorer_calls": self.restorer_calls,
            "seconds": self.seconds,
            "candidates": [row.to_dict() for row in self.rows],
            "left_out": [asdict(each) for each in self.left_out],
            "model": self.doubts.to_dict(),
        }

    def write(self, out: str | Path) -> None:
        """Write the configuration as YAML, for ``reconstruct --config``."""
        head = f"Chosen by ddgm-dist tune on {self.tilts}: {self.blocks} blocks, seed {self.seed}."
        write_config(Path(out), self.config, [head, *self.notes()])
