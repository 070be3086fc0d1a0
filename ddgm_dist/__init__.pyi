"""The public names: the one list that both type checkers and ``__init__.py`` read."""

from .acquisition.ingest import ingest
from .alignment.check import Check, check
from .errors import DdgmError, InputError, PlanError, StorageError
from .evaluation.evaluate import Scores, evaluate
from .inspection.run_status import Status
from .inspection.status import status
from .planning.plan import Plan
from .records.result import open_result
from .remote.submit import submit
from .runs.plan import plan
from .runs.reconstruct import reconstruct
from .runs.result import Result
from .simulation.simulate import simulate
from .tilts.series import TiltSeries
from .training.result import TrainingResult
from .training.train import train
from .tuning.result import Tuning
from .tuning.tune import tune
from .volumes.store import VolumeStore

__version__: str

__all__ = [
    "Check",
    "DdgmError",
    "InputError",
    "Plan",
    "PlanError",
    "Result",
    "Scores",
    "Status",
    "StorageError",
    "TiltSeries",
    "TrainingResult",
    "Tuning",
    "VolumeStore",
    "__version__",
    "check",
    "evaluate",
    "ingest",
    "open_result",
    "plan",
    "reconstruct",
    "simulate",
    "status",
    "submit",
    "train",
    "tune",
]
