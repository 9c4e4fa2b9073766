"""The asyncio client: the names of `relaxon.client`, with calls to await.

Settings, results and errors are the classes of `relaxon.client`. The import loads no torch, Numba or SciPy.
"""

from relaxon.client._async.boosting import BoostingClient
from relaxon.client._async.connection import Client, connect
from relaxon.client._async.convex import ConvexClient
from relaxon.client._async.energy import EnergyClient
from relaxon.client._async.equilibrium import EquilibriumClient
from relaxon.client._async.jobs import Job, JobsClient
from relaxon.client._async.linear import LinearClient, RemoteMatrix
from relaxon.client._async.models import ModelsClient
from relaxon.client._async.poisson import PoissonClient, RemoteGrid
from relaxon.client._async.proximal import ProximalClient
from relaxon.client.shared.asyncio_runtime import Opening

__all__ = [
    "BoostingClient",
    "Client",
    "ConvexClient",
    "EnergyClient",
    "EquilibriumClient",
    "Job",
    "JobsClient",
    "LinearClient",
    "ModelsClient",
    "Opening",
    "PoissonClient",
    "ProximalClient",
    "RemoteGrid",
    "RemoteMatrix",
    "connect",
]
