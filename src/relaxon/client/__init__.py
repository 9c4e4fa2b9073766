"""The blocking client: NumPy arrays in, NumPy arrays out, the server's engines in between.

The import loads NumPy, gRPC and protobuf, and no torch, Numba or SciPy. `_sync` is generated from the asyncio client in
`_async` by `tools/generate_client.py`; `shared` holds what both use, and what each does in its own way.
"""

from relaxon.client._sync.boosting import BoostingClient
from relaxon.client._sync.connection import Client, connect
from relaxon.client._sync.convex import ConvexClient
from relaxon.client._sync.energy import EnergyClient
from relaxon.client._sync.equilibrium import EquilibriumClient
from relaxon.client._sync.jobs import Job, JobsClient
from relaxon.client._sync.linear import LinearClient, RemoteMatrix
from relaxon.client._sync.models import ModelsClient
from relaxon.client._sync.poisson import PoissonClient, RemoteGrid
from relaxon.client._sync.proximal import ProximalClient
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
from relaxon.client.shared.retries import Retries
from relaxon.client.shared.status import Amount, EngineInfo, ServerStatus
from relaxon.wire.conversions.boosting import BoostingModel, BoostingSettings, StageProgress
from relaxon.wire.conversions.convex import (
    BoundsHistory,
    BoundsProgress,
    ConvexModel,
    ConvexSettings,
    OptimalityCertificate,
)
from relaxon.wire.conversions.energy import (
    EnergyModel,
    EnergyProgress,
    EnergySettings,
    LogDensity,
    PartitionEstimate,
)
from relaxon.wire.conversions.equilibrium import (
    EpochProgress,
    EquilibriumModel,
    EquilibriumSettings,
    GradientComparison,
    GradientEstimator,
    HardwareLimits,
)
from relaxon.wire.conversions.forward_maps import BlurMap, FieldMap, IdentityMap, MaskMap, RadonMap
from relaxon.wire.conversions.grid import SolverInfo
from relaxon.wire.conversions.inverse import InverseProgress, InverseSolution
from relaxon.wire.conversions.jobs import JobInfo, JobState
from relaxon.wire.conversions.matrix import MatrixSetUps, MatrixStep
from relaxon.wire.conversions.models import StoredModel
from relaxon.wire.conversions.proximal import (
    PriorValues,
    ProximalModelInfo,
    ProximalNetwork,
    ProximalProgress,
    ProximalSettings,
)
from relaxon.wire.conversions.steps import Step

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
    "HardwareLimits",
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
