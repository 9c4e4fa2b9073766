"""The errors of failed calls, under their documented names; `relaxon.core.errors` defines the classes."""

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

for _name in __all__:
    globals()[_name].__module__ = __name__  # the name that a traceback shows
