"""Differentiable solves of grids and sparse matrices for torch, and solves of tensors on a device."""

from relaxon.core.extras import explain

try:
    from relaxon.solvers.torch.differentiable import poisson_solve
    from relaxon.solvers.torch.on_device import TensorSolution, solve_tensor
    from relaxon.solvers.torch.solving import NotConvergedError
    from relaxon.solvers.torch.sparse import sparse_solve
except ModuleNotFoundError as error:
    raise explain(error, "relaxon.solvers.torch") from error

__all__ = ["NotConvergedError", "TensorSolution", "poisson_solve", "solve_tensor", "sparse_solve"]
