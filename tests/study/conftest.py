"""The scripts of benchmarks/study import each other as scripts do: by name, from their folder."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "benchmarks" / "study"))
