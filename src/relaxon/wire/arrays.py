"""How a connection's arrays travel."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import grpc

from relaxon.proto import tensor_pb2

Compression = Literal["gzip", "deflate"]
COMPRESSIONS = {
    None: (grpc.Compression.NoCompression, tensor_pb2.COMPRESSION_NONE),
    "deflate": (grpc.Compression.Deflate, tensor_pb2.COMPRESSION_DEFLATE),
    "gzip": (grpc.Compression.Gzip, tensor_pb2.COMPRESSION_GZIP),
}


@dataclass(frozen=True, slots=True)
class Wire:
    """Chosen once for a connection."""

    shared_memory: bool
    """Offer this machine's memory to the server."""
    checksums: bool
    """Of arrays that are sent; a connection within this machine needs none."""
    compression: str | None = None
    """Of each message by itself: None, "gzip" or "deflate"."""

    def __post_init__(self) -> None:
        if self.compression not in COMPRESSIONS:
            raise ValueError(f"compression must be None, 'gzip' or 'deflate', got {self.compression!r}")

    @property
    def outgoing(self) -> grpc.Compression:
        """As gRPC's calls take it."""
        return COMPRESSIONS[self.compression][0]

    @property
    def incoming(self) -> tensor_pb2.Compression.ValueType:
        """As headers ask the server for it."""
        return COMPRESSIONS[self.compression][1]
