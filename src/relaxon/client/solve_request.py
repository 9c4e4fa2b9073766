"""What goes up in a `Solve` call before its answer comes: a header, and arrays that are sent or handed over."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray

from relaxon.client.solve_answer import SolveAnswer
from relaxon.proto import poisson_pb2 as pb
from relaxon.proto import tensor_pb2, tensors
from relaxon.proto.shared import SharedFile

B_OFFSET = X_OFFSET = 0
"""Where in a shared file `b` lies, and `x` when `b` has been read; `x0` has the second half."""
CANCEL = pb.SolveRequest(cancel=pb.Cancel())
"""May follow the arrays at any time: stop at the next iteration and send what there is."""


@dataclass(frozen=True, slots=True)
class SolveRequest:
    """A solve that has been checked: `header` announces `b` and, where it is there, `x0`."""

    header: pb.SolveHeader
    b: NDArray[Any]
    x0: NDArray[Any] | None

    def handed(self, shared: SharedFile | None) -> Iterator[pb.SolveRequest]:
        """The messages of one attempt. On return the arrays lie in the shared file, where there is one and it can
        hold them; it is this attempt's alone, and the server has it open."""
        header = pb.SolveHeader()
        header.CopyFrom(self.header)
        if shared is not None:
            header.shared_x = X_OFFSET
        b = _parts(self.b, B_OFFSET, shared)
        x0 = () if self.x0 is None else _parts(self.x0, shared.size // 2 if shared else 0, shared)
        return _messages(header, b, x0)

    def answer(self, shared: SharedFile | None) -> SolveAnswer:
        """What takes the replies to it."""
        return SolveAnswer(self.b.shape, shared)


def _parts(array: NDArray[Any], offset: int, shared: SharedFile | None) -> Iterable[tensor_pb2.TensorPart]:
    if shared is not None:
        with suppress(OSError):  # no memory for it there; what is sent needs none
            shared.write(offset, tensors.octets_of(array))
            return (tensor_pb2.TensorPart(shared=tensor_pb2.SharedArray(offset=offset)),)
    return tensors.parts_of(array)


def _messages(
    header: pb.SolveHeader, b: Iterable[tensor_pb2.TensorPart], x0: Iterable[tensor_pb2.TensorPart]
) -> Iterator[pb.SolveRequest]:
    yield pb.SolveRequest(header=header)
    for part in b:
        yield pb.SolveRequest(b=part)
    for part in x0:
        yield pb.SolveRequest(x0=part)
