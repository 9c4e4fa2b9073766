"""The asyncio client: the surface of `relaxon.client`, with calls that are awaited.

Settings, results and errors are the classes of `relaxon.client`. Importing it loads no torch, Numba or SciPy.
"""

from relaxon.aio.boosting import BoostingClient
from relaxon.aio.connection import Client, connect
from relaxon.aio.convex import ConvexClient
from relaxon.aio.energy import EnergyClient
from relaxon.aio.equilibrium import EquilibriumClient
from relaxon.aio.jobs import Job, JobsClient
from relaxon.aio.linear import LinearClient, RemoteMatrix
from relaxon.aio.models import ModelsClient
from relaxon.aio.opening import Opening
from relaxon.aio.poisson import PoissonClient, RemoteGrid
from relaxon.aio.proximal import ProximalClient

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
