"""Result files: JSON that several processes may add to, each replaced as a whole."""

from __future__ import annotations

import fcntl
import json
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any


def load(file: Path, empty: Any) -> Any:
    """The content of a file; ``empty`` where there is none."""
    return json.loads(file.read_text()) if file.exists() else empty


def change(file: Path, empty: Any, changed: Callable[[Any], Any]) -> Any:
    """Replace a file's content by a function of what it is now, and return that."""
    file.parent.mkdir(parents=True, exist_ok=True)
    lock_file = Path(tempfile.gettempdir()) / f"ddgm-study-{file.stem}.lock"
    with lock_file.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        content = changed(load(file, empty))
        part = file.with_suffix(".part")
        part.write_text(json.dumps(content, indent=1) + "\n")
        part.replace(file)
    return content
