"""Conversion of a call's arguments (pytrees, modules, constants) to a flat list of tensors and back."""

from __future__ import annotations

import functools
import inspect
import types
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from relaxon.implicit.modules import collect_tensors, with_parameters


@dataclass(frozen=True, slots=True)
class _Tensor:
    index: int


@dataclass(frozen=True, slots=True)
class _Module:
    original: nn.Module
    indices: dict[str, int]


@dataclass(frozen=True, slots=True)
class _Constant:
    value: Any


class Arguments:
    """The layout of arguments that were flattened into tensors.

    `tensors` are the tensors in order; `active` says for each whether it may have a derivative: it is floating or
    complex and not declared a constant.
    """

    def __init__(self, arguments: Sequence[Any], constant: Sequence[bool]) -> None:
        self.tensors: list[Tensor] = []
        self.active: list[bool] = []
        self.slots: list[tuple[list[Any], Any]] = []
        for argument, fixed in zip(arguments, constant, strict=True):
            leaves, tree = pytree.tree_flatten(argument)
            self.slots.append(([self._slot(leaf, fixed) for leaf in leaves], tree))

    def _slot(self, leaf: Any, fixed: bool) -> Any:
        if isinstance(leaf, Tensor):
            return _Tensor(self._add(leaf, fixed))
        if isinstance(leaf, nn.Module):
            return _Module(leaf, {name: self._add(p, fixed) for name, p in collect_tensors(leaf).items()})
        return _Constant(leaf)

    def _add(self, tensor: Tensor, fixed: bool) -> int:
        self.tensors.append(tensor)
        self.active.append(not fixed and (tensor.is_floating_point() or tensor.is_complex()))
        return len(self.tensors) - 1

    def forget(self) -> None:
        """Release the tensors: those of a call under `torch.func` must not outlive it."""
        self.tensors = []

    def rebuild(self, tensors: Sequence[Tensor], numpy: bool = False) -> list[Any]:
        """Return the arguments with other tensors in the same places, as NumPy arrays where `numpy`."""
        return [pytree.tree_unflatten([_fill(s, tensors, numpy) for s in slots], tree) for slots, tree in self.slots]


def _fill(slot: Any, tensors: Sequence[Tensor], numpy: bool) -> Any:
    if isinstance(slot, _Constant):
        return slot.value
    if isinstance(slot, _Module):
        return with_parameters(slot.original, {name: tensors[index] for name, index in slot.indices.items()})
    tensor = tensors[slot.index]
    return tensor.detach().cpu().resolve_conj().resolve_neg().numpy().copy() if numpy else tensor


def constant_positions(F: Callable[..., Any], constants: Sequence[str | int]) -> frozenset[int]:
    """Return the positions in θ of `constants`, given as names of F's parameters after x or as positions from 0.

    Raises
    ------
    ValueError : for a name that F does not have.
    """
    if isinstance(constants, str):
        constants = (constants,)
    found = set()
    for constant in constants:
        if isinstance(constant, bool) or not isinstance(constant, int | str):
            raise TypeError(f"constants must be names or positions, got {constant!r}")
        if isinstance(constant, int):
            if constant < 0:
                raise ValueError(f"constants must be positions from 0, got {constant}")
            found.add(constant)
            continue
        names = _parameter_names(F)
        if constant not in names:
            raise ValueError(f"constants must name parameters of F after x ({', '.join(names)}), got {constant!r}")
        found.add(names.index(constant))
    return frozenset(found)


def _parameter_names(F: Callable[..., Any]) -> list[str]:
    """Return the names of F's positional parameters after the first."""
    function = F.forward if isinstance(F, nn.Module) else F
    kinds = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    return [one.name for one in inspect.signature(function).parameters.values() if one.kind in kinds][1:]


def to_tensors(name: str, value: Any, like: Sequence[Tensor]) -> tuple[list[Tensor], Any]:
    """Return the leaves of a solver's result as detached tensors, and its tree.

    NumPy arrays and numbers are converted to the widest floating dtype of `like` and its device; TypeError for other
    arrays. Tensors are not converted.
    """
    leaves, tree = pytree.tree_flatten(value)
    if not leaves:
        raise TypeError(f"{name} must have tensors or arrays as leaves, got {value!r}")
    return [_to_tensor(name, leaf, like) for leaf in leaves], tree


def _to_tensor(name: str, leaf: Any, like: Sequence[Tensor]) -> Tensor:
    if isinstance(leaf, Tensor):
        tensor = leaf.detach()
    elif isinstance(leaf, np.ndarray | np.generic | float | complex):
        array = np.array(leaf)
        if array.dtype.kind not in "fc":
            raise TypeError(f"{name} must have floating or complex leaves, got an array of {array.dtype}")
        floats = [one.dtype.to_real() for one in like if one.is_floating_point() or one.is_complex()]
        real = torch.float64 if not floats or torch.float64 in floats else floats[0]
        tensor = torch.from_numpy(array)
        tensor = tensor.to(like[0].device if like else "cpu", real.to_complex() if tensor.is_complex() else real)
    else:
        raise TypeError(f"{name} must have tensors or arrays as leaves, got {type(leaf).__name__}")
    if not (tensor.is_floating_point() or tensor.is_complex()):
        raise TypeError(f"{name} must have floating or complex leaves, got a tensor of {tensor.dtype}")
    if tensor.layout != torch.strided:
        raise TypeError(f"{name} must have dense leaves, got a tensor of {tensor.layout}; call to_dense()")
    return tensor


CAPTURED = (
    "F must not use tensors that require grad and are not among its arguments, whose gradient would be lost: pass them "
    "(or the module that holds them) as part of θ"
)


def refuse_captured_levels(F: Callable[..., Any]) -> None:
    """Raise ValueError where a function has captured a tensor that a `torch.func` transform is working on.

    Code below that level would treat it as a constant. Closures and partial arguments are searched; tensors reached
    through globals or objects are not found.
    """
    if torch._C._functorch.peek_interpreter_stack() is None:
        return
    waiting: list[Any] = [F]
    seen: set[int] = set()
    while waiting:
        one = waiting.pop()
        if id(one) in seen:
            continue
        seen.add(id(one))
        if isinstance(one, Tensor) and torch._C._functorch.is_functorch_wrapped_tensor(one):
            raise ValueError(CAPTURED)
        if isinstance(one, functools.partial):
            waiting += [one.func, *one.args, *one.keywords.values()]
        elif inspect.isfunction(one):
            waiting += [cell.cell_contents for cell in one.__closure__ or () if cell != _EMPTY]
        elif isinstance(one, tuple | list | dict):
            waiting += pytree.tree_leaves(one)


_EMPTY = types.CellType()
