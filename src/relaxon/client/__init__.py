"""The client: NumPy arrays in, NumPy arrays out, the server's engines in between.

Importing it loads NumPy, gRPC and protobuf; never torch, Numba or SciPy.
"""

from relaxon.client.connection import Client, connect
from relaxon.client.errors import (
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
from relaxon.client.poisson import PoissonClient, RemoteGrid, SolverInfo

__all__ = [
    "Cancelled",
    "Client",
    "DeadlineExceeded",
    "FailedPrecondition",
    "InternalError",
    "InvalidArgument",
    "NotFound",
    "PoissonClient",
    "RelaxonError",
    "RemoteGrid",
    "ResourceExhausted",
    "SolverInfo",
    "Unavailable",
    "connect",
]
