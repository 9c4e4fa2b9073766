"""Modules with other tensors in place of their parameters; the original is neither changed nor locked."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn
from torch.func import functional_call


def collect_tensors(module: nn.Module) -> dict[str, Tensor]:
    """Return the parameters of a module by their dotted names, shared ones once."""
    return dict(module.named_parameters())


def with_parameters(module: nn.Module, tensors: Mapping[str, Tensor]) -> nn.Module:
    """Return a module that computes with `tensors`, by the dotted names that `collect_tensors` gives.

    Only the tree of modules is copied; buffers are the original's. Modules and parameters that occur more than once
    stay shared. Several threads may do this to one module at a time.
    """
    by_identity = {id(parameter): tensors[name] for name, parameter in module.named_parameters()}
    return _copy(module, by_identity, {})


def call_with(module: nn.Module, tensors: Mapping[str, Tensor], *arguments: Any) -> Any:
    """Return `module(*arguments)` with other tensors, by the names of `named_parameters` and `named_buffers`.

    `torch.func.functional_call` alone gives the module's own tensors back wrongly where a layer occurs twice: it takes
    its own replacement, put in by the layer's first name, for what was there under the second. Here each layer has one
    name, and tied parameters are replaced in every layer that holds them. Where no name is missing, bits and speed are
    those of torch's function.
    """
    known = {id(value): name for name, value in (*module.named_parameters(), *module.named_buffers())}
    replaced = {}
    for prefix, part in module.named_modules():
        for own, value in (*part._parameters.items(), *part._buffers.items()):
            if value is not None and known.get(id(value)) in tensors:
                replaced[f"{prefix}.{own}" if prefix else own] = tensors[known[id(value)]]
    return functional_call(module, replaced, arguments, tie_weights=False)


def _copy(module: nn.Module, by_identity: Mapping[int, Tensor], done: dict[int, nn.Module]) -> nn.Module:
    if id(module) in done:
        return done[id(module)]
    copy = module.__class__.__new__(module.__class__)
    done[id(module)] = copy
    copy.__dict__.update(module.__dict__)
    parts = {
        "_parameters": {name: p if p is None else by_identity[id(p)] for name, p in module._parameters.items()},
        "_buffers": dict(module._buffers),
        "_modules": {
            name: child if child is None else _copy(child, by_identity, done) for name, child in module._modules.items()
        },
    }
    copy.__dict__.update(parts)
    for name, value in module.__dict__.items():
        if type(value) in (list, tuple) and any(id(one) in by_identity for one in value):
            # Parameters in plain lists beside the registered ones, as `nn.LSTM` has them.
            copy.__dict__[name] = type(value)([by_identity.get(id(one), one) for one in value])
    return copy
