"""Images for trainings of a few steps."""

from pathlib import Path

import pytest
from PIL import Image

from tests.training.small_training import tissue


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Sections of a small volume as images."""
    path = tmp_path / "sections"
    path.mkdir()
    for z, section in enumerate(tissue()):
        Image.fromarray(section).save(path / f"z{z}.png")
    return path
