"""How the arrays of one connection travel: shared memory, checksums, compression."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import grpc

from relaxon.proto import tensor_pb2

# gRPC is imported for its enumeration of compressions alone.

Compression = Literal["gzip", "deflate"]
COMPRESSIONS = {
    None: (grpc.Compression.NoCompression, tensor_pb2.COMPRESSION_NONE),
    "deflate": (grpc.Compression.Deflate, tensor_pb2.COMPRESSION_DEFLATE),
    "gzip": (grpc.Compression.Gzip, tensor_pb2.COMPRESSION_GZIP),
}


@dataclass(frozen=True, slots=True)
class Wire:
    """The choices of a connection, made once."""

    shared_memory: bool
    """Whether this machine's memory is offered to the server."""
    checksums: bool
    """Whether arrays are sent with checksums; a connection within one machine needs none."""
    compression: str | None = None
    """How each message is compressed: None, "gzip" or "deflate"."""

    def __post_init__(self) -> None:
        if self.compression not in COMPRESSIONS:
            raise ValueError(f"compression must be None, 'gzip' or 'deflate', got {self.compression!r}")

    @property
    def outgoing(self) -> grpc.Compression:
        """The compression as gRPC's calls take it."""
        return COMPRESSIONS[self.compression][0]
