"""The client: NumPy arrays in, NumPy arrays out, the server's engines in between.

Importing it loads NumPy, gRPC and protobuf; never torch, Numba or SciPy.
"""

from relaxon.client.boosting import BoostingClient, BoostingModel, BoostingSettings, StageProgress
from relaxon.client.connection import Client, connect
from relaxon.client.equilibrium import (
    EpochProgress,
    EquilibriumClient,
    EquilibriumModel,
    EquilibriumSettings,
    GradientComparison,
    GradientEstimator,
)
from relaxon.client.errors import (
    AlreadyExists,
    Cancelled,
    DeadlineExceeded,
    FailedPrecondition,
    InternalError,
    InvalidArgument,
    NotFound,
    PermissionDenied,
    RelaxonError,
    ResourceExhausted,
    Unauthenticated,
    Unavailable,
)
from relaxon.client.jobs import Job, JobState
from relaxon.client.models import ModelsClient, StoredModel
from relaxon.client.poisson import PoissonClient, RemoteGrid, SolverInfo
from relaxon.client.status import Amount, ServerStatus

__all__ = [
    "AlreadyExists",
    "Amount",
    "BoostingClient",
    "BoostingModel",
    "BoostingSettings",
    "Cancelled",
    "Client",
    "DeadlineExceeded",
    "EpochProgress",
    "EquilibriumClient",
    "EquilibriumModel",
    "EquilibriumSettings",
    "FailedPrecondition",
    "GradientComparison",
    "GradientEstimator",
    "InternalError",
    "InvalidArgument",
    "Job",
    "JobState",
    "ModelsClient",
    "NotFound",
    "PermissionDenied",
    "PoissonClient",
    "RelaxonError",
    "RemoteGrid",
    "ResourceExhausted",
    "ServerStatus",
    "SolverInfo",
    "StageProgress",
    "StoredModel",
    "Unauthenticated",
    "Unavailable",
    "connect",
]
