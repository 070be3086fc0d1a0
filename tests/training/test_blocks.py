"""Blocks of tissue for the training of a restorer."""

import numpy as np

from ddgm_dist.training.blocks import BlockSampler
from ddgm_dist.training.patches import PatchSampler


def sampler(**changes: float) -> BlockSampler:
    volume = np.random.default_rng(0).integers(20, 220, (40, 36, 44), dtype=np.uint8)
    return BlockSampler(PatchSampler([volume], size=16, **changes))


def test_the_generator_decides() -> None:
    blocks = sampler(zoom=0.5, tone=0.5, blur=0.5)
    a, b, c = (blocks.draw(np.random.default_rng(s), (4, 16, 24)) for s in (1, 1, 2))
    assert a.shape == (4, 16, 24)
    assert a.dtype == np.float32
    assert np.array_equal(a, b)
    assert not np.array_equal(a, c)


def test_blocks_are_normalised() -> None:
    rng = np.random.default_rng(0)
    values = np.stack([sampler().draw(rng, (4, 16, 24), augment=False) for _ in range(20)])
    assert abs(values.mean()) < 0.05
    assert abs(values.std() - 1) < 0.05


def test_a_smaller_volume_is_mirrored() -> None:
    block = sampler().draw(np.random.default_rng(0), (4, 16, 100), augment=False)
    assert block.shape == (4, 16, 100)
    extent = next(n for n in (36, 40, 44) if np.array_equal(block[..., n - 1], block[..., n]))
    assert np.array_equal(
        block[..., extent : extent + 20], block[..., extent - 20 : extent][..., ::-1]
    )


def test_rows_are_neighbours() -> None:
    ramp = np.broadcast_to(np.arange(40, dtype=np.float32)[:, None, None], (40, 36, 44))
    blocks = BlockSampler(PatchSampler([np.ascontiguousarray(ramp)], size=16, planes=("yx",)))
    block = blocks.draw(np.random.default_rng(0), (5, 16, 24), augment=False)
    step = np.diff(block[:, 0, 0])
    assert np.allclose(step, step[0])
    assert abs(step[0]) > 0
    assert np.ptp(block[2]) == 0


def test_a_thin_stack_gives_its_sections_only() -> None:
    """A plane in which a volume is smaller than a patch would be mirrored again and again."""
    volume = np.random.default_rng(0).standard_normal((4, 64, 64)).astype(np.float32)
    blocks = BlockSampler(PatchSampler([volume], size=32))
    sections = {section.tobytes() for section in np.sort(volume.reshape(4, -1), axis=1)}
    rng = np.random.default_rng(1)
    for _ in range(12):
        block = blocks.draw(rng, (4, 64, 64), augment=False)
        restored = block * volume.std() + volume.mean()
        rows = np.sort(restored.reshape(4, -1), axis=1)
        known = np.array([np.frombuffer(s, np.float32) for s in sections])
        assert all(np.abs(known - row).max(axis=1).min() < 1e-4 for row in rows)
