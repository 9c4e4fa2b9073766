"""A call of a wrapped solver with everything that its derivatives require, as flat lists of tensors."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from relaxon.implicit.arguments import Arguments, to_tensors
from relaxon.implicit.options import ImplicitOptions
from relaxon.implicit.verdict import Sink


class Memory:
    """A thread-safe store of linear solutions for warm starts, and of factors for reuse.

    Copies and pickles of it are empty.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._kept: dict[Any, Any] = {}

    def get(self, key: Any) -> Any:
        """Return the value of a key, or None."""
        with self._lock:
            return self._kept.get(key)

    def put(self, key: Any, value: Any) -> None:
        """Store a value, replacing the last one with this key."""
        with self._lock:
            self._kept[key] = value

    def __reduce__(self) -> tuple[type[Memory], tuple[()]]:
        return Memory, ()


_TENSOR = object()
"""Placeholder of a tensor among other values."""


class SolverCall:
    """A call of a wrapped solver; each method is given its tensors, those of a `torch.func` level.

    `solve` runs the solver and `residual` is F; both take and return lists of tensors. `active` marks the tensors of θ
    that may have derivatives; `batch_dims` is the number of leading axes of x that index samples.
    """

    active: Sequence[bool]
    options: ImplicitOptions
    sinks: tuple[Sink, ...]
    batch_dims: int
    factors: Memory
    starts: Memory
    starts_count: int
    """Number of tensors of the initial guess, which come first."""
    x_count: int = 0
    """Number of leaves of x; known after `solve`."""
    aux_constants: list[Any]
    """The auxiliary output except for its tensors; known after `solve`."""

    def solve(self, tensors: Sequence[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
        """Return the leaves of x and the tensors of the auxiliary output."""
        raise NotImplementedError

    def residual(self, x: Sequence[Tensor], theta: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """Return F(x, θ) with the dtypes of x."""
        raise NotImplementedError

    def apply_structured(
        self, function: Callable[..., Any], vector: Sequence[Tensor], x: Sequence[Tensor], theta: Sequence[Tensor]
    ) -> list[Tensor]:
        """Apply a user's map `function(vector, x, *theta)` of pytrees like x, to one sample of a `vmap` at a time."""
        raise NotImplementedError


class PlainCall(SolverCall):
    """A call by the user."""

    def __init__(
        self,
        *,
        solver: Callable[..., Any],
        function: Callable[..., Any],
        fixed_point: bool,
        owned: bool,
        has_aux: bool,
        numpy: bool,
        settings: dict[str, Any],
        start: Arguments,
        theta: Arguments,
        options: ImplicitOptions,
        sinks: tuple[Sink, ...],
        batch_dims: int,
        starts: Memory,
    ) -> None:
        """Create the call; `owned` says that the last argument of `theta` is the module whose method `function` is."""
        self._solver, self._function, self._fixed_point, self._owned = solver, function, fixed_point, owned
        self._has_aux, self._numpy, self._settings = has_aux, numpy, settings
        self._start, self._theta = start, theta
        self.options, self.sinks, self.batch_dims = options, sinks, batch_dims
        self.active, self.starts_count = theta.active, len(start.tensors)
        self.starts, self.factors = starts, Memory()
        self.x_tree: Any = None
        self._aux_tree: Any = None

    def solve(self, tensors: Sequence[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
        tensors = [one.detach() for one in tensors]
        start, parameters = tensors[: self.starts_count], tensors[self.starts_count :]
        (init,) = self._start.rebuild(start if self._numpy else [one.clone() for one in start], self._numpy)
        theta = self._theta.rebuild(parameters, self._numpy)
        versions = [_version(one) for one in parameters]
        found = self._solver(init, *(theta[:-1] if self._owned else theta), **self._settings)
        if versions != [_version(one) for one in parameters]:
            raise ValueError("solver must not change θ in place, got a tensor of θ that it has modified")
        aux = None
        if self._has_aux:
            if not isinstance(found, tuple) or len(found) != 2:
                raise TypeError(f"solver must return (x, aux) where has_aux=True, got {type(found).__name__}")
            found, aux = found
        x, self.x_tree = to_tensors("the solver's result", found, tensors)
        self.x_count = len(x)
        given = {one.untyped_storage().data_ptr() for one in tensors}
        x = [one.clone() if one.untyped_storage().data_ptr() in given else one for one in x]
        leaves, self._aux_tree = pytree.tree_flatten(aux)
        self.aux_constants = [_TENSOR if isinstance(leaf, Tensor) else leaf for leaf in leaves]
        return x, [leaf.detach().clone() for leaf in leaves if isinstance(leaf, Tensor)]

    def result(self, outputs: Sequence[Tensor]) -> Any:
        """Return x, or (x, aux), from the leaves and tensors that `solve` gave."""
        x = pytree.tree_unflatten(list(outputs[: self.x_count]), self.x_tree)
        if not self._has_aux:
            return x
        tensors = iter(outputs[self.x_count :])
        leaves = [next(tensors) if one is _TENSOR else one for one in self.aux_constants]
        return x, pytree.tree_unflatten(leaves, self._aux_tree)

    def residual(self, x: Sequence[Tensor], theta: Sequence[Tensor]) -> tuple[Tensor, ...]:
        rebuilt, state = self._theta.rebuild(theta), pytree.tree_unflatten(list(x), self.x_tree)
        arguments = [rebuilt[-1], state, *rebuilt[:-1]] if self._owned else [state, *rebuilt]
        values, tree = pytree.tree_flatten(self._function(*arguments))
        name = "T" if self._fixed_point else "F"
        if tree != self.x_tree:
            raise ValueError(f"{name} must return the structure of x, {self.x_tree}, got {tree}")
        for place, (value, one) in enumerate(zip(values, x, strict=True)):
            if not isinstance(value, Tensor):
                raise TypeError(f"{name} must return tensors, got {type(value).__name__} as leaf {place}")
            if value.shape != one.shape or value.is_complex() != one.is_complex():
                raise ValueError(
                    f"{name} must return the shape and kind of x, {tuple(one.shape)} {one.dtype} as leaf {place}, got "
                    f"{tuple(value.shape)} {value.dtype}"
                )
        values = [value.to(one.dtype) for value, one in zip(values, x, strict=True)]
        return tuple(v - one for v, one in zip(values, x, strict=True)) if self._fixed_point else tuple(values)

    def apply_structured(
        self, function: Callable[..., Any], vector: Sequence[Tensor], x: Sequence[Tensor], theta: Sequence[Tensor]
    ) -> list[Tensor]:
        theta_trees = self._theta.rebuild([one.detach() for one in theta])
        given = [pytree.tree_unflatten([one.detach() for one in part], self.x_tree) for part in (vector, x)]
        found, tree = pytree.tree_flatten(function(*given, *(theta_trees[:-1] if self._owned else theta_trees)))
        if tree != self.x_tree:
            raise ValueError(
                f"a preconditioner or linear_solver must return the structure of x, {self.x_tree}, got {tree}"
            )
        for one, like in zip(found, vector, strict=True):
            if not isinstance(one, Tensor) or one.shape != like.shape or one.is_complex() != like.is_complex():
                raise ValueError(
                    f"a preconditioner or linear_solver must return tensors like x, {tuple(like.shape)} {like.dtype}, "
                    f"got {f'{tuple(one.shape)} {one.dtype}' if isinstance(one, Tensor) else type(one).__name__}"
                )
        return found


def _version(tensor: Tensor) -> int:
    """Return how often a tensor was changed in place; 0 for tensors of inference mode, which do not count it."""
    return 0 if tensor.is_inference() else tensor._version


class VmappedCall(SolverCall):
    """A call under one level of `torch.vmap`: the solver runs for each sample in turn, F for all at once."""

    def __init__(self, inner: SolverCall, size: int, dims: Sequence[int | None], shared: bool = False) -> None:
        """Create the call; `dims` are 0 or None for each tensor of start and θ, `shared` if x is the same for all."""
        self.inner, self.shared = inner, shared
        self._size, self._dims = size, list(dims)
        self.active, self.options, self.sinks = inner.active, inner.options, inner.sinks
        self.batch_dims, self.starts_count = inner.batch_dims + 1, inner.starts_count
        self.factors, self.starts = Memory(), inner.starts
        self.x_count = inner.x_count

    def solve(self, tensors: Sequence[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
        x: list[list[Tensor]] = []
        aux: list[list[Tensor]] = []
        constants: list[Any] = []
        for index in range(self._size):
            mine = [t if dim is None else t[index] for t, dim in zip(tensors, self._dims, strict=True)]
            for whole, part in zip((x, aux), self.inner.solve(mine), strict=True):
                whole.append(part)
            constants.append(self.inner.aux_constants)
        if any(one != constants[0] for one in constants):
            raise ValueError("aux must have only tensors as leaves that differ between samples under torch.vmap")
        self.x_count, self.aux_constants = self.inner.x_count, constants[0]
        return [torch.stack(same) for same in zip(*x, strict=True)], [torch.stack(s) for s in zip(*aux, strict=True)]

    def residual(self, x: Sequence[Tensor], theta: Sequence[Tensor]) -> tuple[Tensor, ...]:
        dims = (*[0] * len(x), *self._dims[self.starts_count :])
        count = len(x)
        mapped = torch.vmap(lambda *all_: self.inner.residual(all_[:count], all_[count:]), dims)
        return mapped(*x, *theta)

    def apply_structured(
        self, function: Callable[..., Any], vector: Sequence[Tensor], x: Sequence[Tensor], theta: Sequence[Tensor]
    ) -> list[Tensor]:
        dims = self._dims[self.starts_count :]
        found = [
            self.inner.apply_structured(
                function,
                [one[i] for one in vector],
                [one[i] for one in x],
                [one if dim is None else one[i] for one, dim in zip(theta, dims, strict=True)],
            )
            for i in range(self._size)
        ]
        return [torch.stack(same) for same in zip(*found, strict=True)]
