"""The client: NumPy arrays in, NumPy arrays out, the server's engines in between.

Importing it loads NumPy, gRPC and protobuf; never torch, Numba or SciPy.
"""

from relaxon.client.boosting import BoostingClient
from relaxon.client.boosting_messages import BoostingModel, BoostingSettings, StageProgress
from relaxon.client.connection import Client, connect
from relaxon.client.convex import ConvexClient
from relaxon.client.convex_messages import (
    BoundsHistory,
    BoundsProgress,
    ConvexModel,
    ConvexSettings,
    OptimalityCertificate,
)
from relaxon.client.energy import EnergyClient
from relaxon.client.energy_messages import (
    EnergyModel,
    EnergyProgress,
    EnergySettings,
    LogDensity,
    PartitionEstimate,
)
from relaxon.client.equilibrium import EquilibriumClient
from relaxon.client.equilibrium_messages import (
    EpochProgress,
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
    GridLost,
    InternalError,
    InvalidArgument,
    NotFound,
    PermissionDenied,
    RelaxonError,
    ResourceExhausted,
    Unauthenticated,
    Unavailable,
)
from relaxon.client.forward_maps import BlurMap, FieldMap, IdentityMap, MaskMap, RadonMap
from relaxon.client.inverse_messages import InverseProgress, InverseSolution
from relaxon.client.job_messages import JobInfo, JobState
from relaxon.client.jobs import Job, JobsClient
from relaxon.client.linear import LinearClient, RemoteMatrix
from relaxon.client.linear_messages import MatrixSetUps, MatrixStep
from relaxon.client.models import ModelsClient
from relaxon.client.models_messages import StoredModel
from relaxon.client.poisson import PoissonClient, RemoteGrid
from relaxon.client.poisson_messages import SolverInfo
from relaxon.client.proximal import ProximalClient
from relaxon.client.proximal_messages import (
    PriorValues,
    ProximalModelInfo,
    ProximalNetwork,
    ProximalProgress,
    ProximalSettings,
)
from relaxon.client.retries import Retries
from relaxon.client.status import Amount, EngineInfo, ServerStatus
from relaxon.client.step_messages import Step

__all__ = [
    "AlreadyExists",
    "Amount",
    "BlurMap",
    "BoostingClient",
    "BoostingModel",
    "BoostingSettings",
    "BoundsHistory",
    "BoundsProgress",
    "Cancelled",
    "Client",
    "ConvexClient",
    "ConvexModel",
    "ConvexSettings",
    "DeadlineExceeded",
    "EnergyClient",
    "EnergyModel",
    "EnergyProgress",
    "EnergySettings",
    "EngineInfo",
    "EpochProgress",
    "EquilibriumClient",
    "EquilibriumModel",
    "EquilibriumSettings",
    "FailedPrecondition",
    "FieldMap",
    "GradientComparison",
    "GradientEstimator",
    "GridLost",
    "IdentityMap",
    "InternalError",
    "InvalidArgument",
    "InverseProgress",
    "InverseSolution",
    "Job",
    "JobInfo",
    "JobState",
    "JobsClient",
    "LinearClient",
    "LogDensity",
    "MaskMap",
    "MatrixSetUps",
    "MatrixStep",
    "ModelsClient",
    "NotFound",
    "OptimalityCertificate",
    "PartitionEstimate",
    "PermissionDenied",
    "PoissonClient",
    "PriorValues",
    "ProximalClient",
    "ProximalModelInfo",
    "ProximalNetwork",
    "ProximalProgress",
    "ProximalSettings",
    "RadonMap",
    "RelaxonError",
    "RemoteGrid",
    "RemoteMatrix",
    "ResourceExhausted",
    "Retries",
    "ServerStatus",
    "SolverInfo",
    "StageProgress",
    "Step",
    "StoredModel",
    "Unauthenticated",
    "Unavailable",
    "connect",
]
