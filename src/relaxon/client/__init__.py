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
    RelaxonError,
    ResourceExhausted,
    Unavailable,
)
from relaxon.client.jobs import Job, JobState
from relaxon.client.linear import LinearClient, RemoteMatrix
from relaxon.client.poisson import PoissonClient, RemoteGrid, SolverInfo
from relaxon.client.step_messages import Step

__all__ = [
    "AlreadyExists",
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
    "LinearClient",
    "NotFound",
    "PoissonClient",
    "RelaxonError",
    "RemoteGrid",
    "RemoteMatrix",
    "ResourceExhausted",
    "SolverInfo",
    "StageProgress",
    "Step",
    "Unavailable",
    "connect",
]
