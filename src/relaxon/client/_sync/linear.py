# Generated from relaxon/client/_async/linear.py by tools/generate_client.py: edit that file and run the tool.
"""Linear systems on a server: sparse matrices that it keeps, and solves with them."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from numpy.typing import ArrayLike

from relaxon.client._sync.remote import RemoteSystem, ServerLink
from relaxon.client.shared.blocking_runtime import open_now
from relaxon.core.sparse_matrix import SparseMatrix
from relaxon.proto import linear_pb2 as pb
from relaxon.proto import linear_pb2_grpc, poisson_pb2
from relaxon.wire.chunks import wrap_channel
from relaxon.wire.conversions.grid import SolverInfo, read_solver_infos
from relaxon.wire.conversions.matrix import ARGUMENTS, MatrixSetUps, MatrixStep, SentMatrix
from relaxon.wire.conversions.system import MatrixHandle
from relaxon.wire.handover import Handover, offer_file
from relaxon.wire.ownership import NotPickled


class LinearClient(NotPickled):
    """The calls of a `relaxon.client.Client` for sparse matrices."""

    def __init__(self, link: ServerLink) -> None:
        channel = wrap_channel(link.channel)
        self._stub: linear_pb2_grpc.LinearSystemServiceStub = linear_pb2_grpc.LinearSystemServiceStub(channel)
        self._link = link
        self._caller = link.caller

    def matrix(
        self,
        matrix: SparseMatrix,
        *,
        near_null: ArrayLike | None = None,
        coordinates: ArrayLike | None = None,
        block_size: int | None = None,
        symmetric: bool | None = None,
        M: None = None,
        timeout: float | None = None,
    ) -> RemoteMatrix:
        """Have the server keep a SciPy sparse matrix.

        Parameters
        ----------
        matrix : any that `relaxon.solvers.solve` accepts: as a rule symmetric and positive definite, or with a null
            space that consists of constants or of given vectors.
        near_null, coordinates, block_size, symmetric : as in `relaxon.solvers.solve`.
        M : None; your own preconditioner cannot be sent to a server.

        Everything else is as in `client.poisson.grid`.

        Examples
        --------
        >>> import numpy as np
        >>> import relaxon
        >>> from scipy.sparse import diags_array
        >>> from relaxon.server.app import EmbeddedServer
        >>> A = diags_array([-1.0, 2.5, -1.0], offsets=[-1, 0, 1], shape=(50, 50))
        >>> def solve(target):
        ...     with relaxon.connect(target) as client, client.linear.matrix(A) as matrix:
        ...         return matrix.solve(np.ones(50))
        >>> with EmbeddedServer() as server:
        ...     solution = solve(server.target)
        >>> solution.result.name, bool(np.allclose(A @ solution.x, 1))
        ('CONVERGED', True)
        """

        def open_matrix() -> RemoteMatrix:
            seconds = self._caller.transfer_seconds(timeout)
            sent = SentMatrix.of(matrix, near_null, coordinates, block_size, symmetric, M)
            attendance = self._link.attendance.name()
            with offer_file(sent.unknowns, self._link.wire.shared_memory) as (file, offer):
                # A matrix whose answer was lost stays until it expires, so making it twice does harm.
                kept = self._caller.make(
                    partial(self._stub.CreateMatrix, compression=self._link.wire.outgoing),
                    partial(sent.requests, self._link.wire, offer, attendance),
                    idempotent=False,
                    seconds=seconds,
                    arguments=ARGUMENTS,
                )
                handover = Handover(file if kept.shared else None)
            return RemoteMatrix(self._stub, kept, sent, handover, self._link)

        return open_now(open_matrix)

    def list_solvers(self) -> tuple[SolverInfo, ...]:
        """List the solvers for sparse matrices that the server knows by name."""
        request = poisson_pb2.ListSolversRequest()
        return read_solver_infos(self._caller.make(self._stub.ListMatrixSolvers, request, idempotent=True))


class RemoteMatrix(MatrixHandle, RemoteSystem[MatrixStep]):
    """A matrix that a server keeps, from `client.linear.matrix`; right-hand sides are vectors.

    Examples
    --------
    >>> import numpy as np
    >>> import relaxon
    >>> from relaxon.client import MatrixStep
    >>> from relaxon.server.app import EmbeddedServer
    >>> from scipy.sparse import diags_array
    >>> A = diags_array([-1.0, 2.5, -1.0], offsets=[-1, 0, 1], shape=(50, 50)).tocsr()
    >>> def solve(target):
    ...     with relaxon.connect(target) as client, client.linear.matrix(A) as matrix:
    ...         steps = (MatrixStep(np.ones(50), A * (1 + k)) for k in range(3))
    ...         return [solution.x[25] for solution in matrix.solve_steps(steps, rtol=1e-10)]
    >>> with EmbeddedServer() as server:
    ...     values = solve(server.target)
    >>> bool(np.allclose(values, values[0] / np.arange(1, 4)))
    True
    """

    _arguments = ARGUMENTS

    def __init__(
        self,
        stub: linear_pb2_grpc.LinearSystemServiceStub,
        kept: pb.Matrix,
        sent: SentMatrix,
        handover: Handover,
        link: ServerLink,
    ) -> None:
        super().__init__(stub.SolveMatrix, stub.SolveMatrixSteps, handover, link)
        self._stub = stub
        self._note_kept(kept, sent)

    def update(self, matrix: SparseMatrix, *, timeout: float | None = None) -> None:
        """Replace the values of the matrix and keep its pattern, as in time steps or Newton's method.

        What was set up for the matrix is updated when it is next used: ordering and aggregates stay.

        Parameters
        ----------
        matrix : a SciPy sparse matrix with entries at the same positions as the first, in any order.

        Raises
        ------
        As `client.linear.matrix`; and InvalidArgument, which says where the pattern differs.
        """
        seconds = self._caller.transfer_seconds(timeout)
        change = self._change(matrix)
        method = partial(self._stub.UpdateMatrix, compression=self._wire.outgoing)
        requests = partial(change.update_requests, self.id, self._wire)
        with self._in_use():
            reply = self._caller.make(method, requests, idempotent=True, seconds=seconds, arguments=ARGUMENTS)
            self._note_reply(reply)

    def describe(self) -> MatrixSetUps:
        """Return what the server has set up for the matrix: solvers, their levels, sizes and complexities."""
        request = pb.DescribeMatrixRequest(id=self.id)
        with self._in_use():
            return MatrixSetUps.of(self._caller.make(self._stub.DescribeMatrix, request, idempotent=True))

    def _deletion_call(self) -> tuple[Callable[..., Any], Any]:
        return self._stub.DeleteMatrix, pb.DeleteMatrixRequest(id=self.id)
