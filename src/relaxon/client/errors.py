"""What a call can fail with, under its documented name; `relaxon.core.errors` defines the classes."""

from relaxon.core.errors import (
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

__all__ = [
    "AlreadyExists",
    "Cancelled",
    "DeadlineExceeded",
    "FailedPrecondition",
    "GridLost",
    "InternalError",
    "InvalidArgument",
    "NotFound",
    "PermissionDenied",
    "RelaxonError",
    "ResourceExhausted",
    "Unauthenticated",
    "Unavailable",
]
