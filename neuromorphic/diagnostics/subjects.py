"""Subjects, the interface of the diagnostics to a model: outputs, the loss of a row, and hidden layers.

`models` makes them of any torch module and of any fitted estimator with `to_torch()`; `relaxing` has the subject of
networks that relax.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor, nn

from relaxon.core.masked import plain_array
from relaxon.implicit.modules import call_with
from relaxon.neuromorphic.diagnostics.losses import LossKind, row_losses, widen_logit

Parameters = dict[str, Tensor]
UNBATCHED = (nn.modules.batchnorm._BatchNorm,)
RANDOM = (nn.modules.dropout._DropoutNd, nn.RReLU)


@runtime_checkable
class TorchExportable(Protocol):
    """A fitted estimator that can be diagnosed: `to_torch()` returns a module from rows to outputs before the link.

    A classifier also has `classes_`; its module has an output for each of them, or a single logit for the second of
    two.
    """

    def to_torch(self) -> nn.Module:
        """Return the fitted network as a torch module."""


class Subject(ABC):
    """A model under diagnosis. Rows are tensors `(n, …)`, targets `(n, K)`, one-hot for classes."""

    name: str
    loss: LossKind
    classes: NDArray[Any] | None
    """The labels of a classifier; None where labels are the indices of the outputs."""

    @property
    def classifies(self) -> bool:
        """Whether targets are classes."""
        return self.loss == "cross-entropy"

    @abstractmethod
    def parameters(self) -> Parameters:
        """Return the trainable parameters, detached, by their names."""

    @abstractmethod
    def rows(self, X: ArrayLike) -> Tensor:
        """Return validated rows in the dtype and shape and on the device of the model."""

    @abstractmethod
    def outputs(self, x: Tensor) -> Tensor:
        """Return the outputs before the link, `(n, K)`, detached."""

    @abstractmethod
    def row_loss(self, parameters: Parameters, x: Tensor, target: Tensor, *constants: Tensor) -> Tensor:
        """Return the loss of one row, a scalar that can be differentiated by parameters or `x`."""

    @abstractmethod
    def activations(self, x: Tensor, layers: Sequence[str]) -> dict[str, Tensor]:
        """Return the values of the given hidden layers, each `(n, units)`."""

    @property
    @abstractmethod
    def layers(self) -> tuple[str, ...]:
        """The names of the hidden layers."""

    def default_layers(self) -> tuple[str, ...]:
        """Return the hidden layers to examine by default."""
        return self.layers

    def constants(self, x: Tensor, target: Tensor) -> tuple[Tensor, ...]:
        """Return further arguments of `row_loss` that are not differentiated, each `(n, …)`."""
        del x, target
        return ()

    def labels(self, y: ArrayLike, outputs: int) -> NDArray[np.int64]:
        """Return labels as indices of outputs, `(n,)`; ValueError for a label that the model does not have."""
        given = plain_array("y", y)
        if self.classes is not None:
            unknown = np.setdiff1d(given, self.classes)
            if unknown.size:
                raise ValueError(
                    f"y must have the labels {_list_few(self.classes)} of the model, got {unknown.tolist()[0]!r}"
                )
            return np.searchsorted(self.classes, given).astype(np.int64)
        if given.dtype.kind not in "iu":
            raise TypeError(f"y must be class indices of an integer dtype, got dtype {given.dtype}")
        if given.min() < 0 or given.max() >= outputs:
            raise ValueError(
                f"y must have class indices from 0 to {outputs - 1}, as the model has {outputs} outputs, "
                f"got {given.min()} to {given.max()}"
            )
        return given.astype(np.int64)


class ModuleSubject(Subject):
    """A torch module from rows to outputs `(n, K)`, which is called with copies of its buffers and not changed."""

    def __init__(self, module: nn.Module, loss: LossKind, classes: NDArray[Any] | None, name: str) -> None:
        _check_module(module)
        self.module, self.loss, self.classes, self.name = module, loss, classes, name
        named = dict(module.named_parameters())
        self._trained = {key: value.detach() for key, value in named.items() if value.requires_grad}
        self._fixed = {key: value.detach() for key, value in named.items() if not value.requires_grad}
        self._sample = next(iter(named.values()))

    def parameters(self) -> Parameters:
        return self._trained

    def rows(self, X: ArrayLike) -> Tensor:
        x = read_finite_rows(X, self._sample.dtype).to(self._sample.device)
        try:
            with torch.no_grad():
                made = self._call(self._trained, x[:1])
        except (RuntimeError, ValueError) as error:
            raise ValueError(f"X must have rows that the model accepts, got shape {tuple(x.shape)}: {error}") from error
        if not isinstance(made, Tensor) or made.ndim != 2 or len(made) != 1:
            got = f"shape {tuple(made.shape)}" if isinstance(made, Tensor) else type(made).__name__
            raise ValueError(f"model must return outputs (rows, outputs), got {got} for one row")
        return x

    def outputs(self, x: Tensor) -> Tensor:
        with torch.no_grad():
            return self.widen(self._call(self._trained, x))

    def row_loss(self, parameters: Parameters, x: Tensor, target: Tensor, *constants: Tensor) -> Tensor:
        outputs = self.widen(self._call(parameters, x[None]))
        return row_losses(self.loss, outputs, target[None])[0]

    def row_output(self, x: Tensor, direction: Tensor) -> Tensor:
        """Return the outputs of one row times `direction (K,)`, a scalar that can be differentiated by `x`."""
        return (self.widen(self._call(self._trained, x[None]))[0] * direction).sum()

    @property
    def layers(self) -> tuple[str, ...]:
        return tuple(name for name, module in self.module.named_modules() if name and not isinstance(module, _LISTS))

    def default_layers(self) -> tuple[str, ...]:
        """Return the activation modules; without any, all layers without children except the last."""
        leaves = [
            (name, module) for name, module in self.module.named_modules() if name and not list(module.children())
        ]
        active = tuple(name for name, module in leaves if type(module).__module__ == nn.ReLU.__module__)
        return active or tuple(name for name, _ in leaves[:-1])

    def activations(self, x: Tensor, layers: Sequence[str]) -> dict[str, Tensor]:
        found: dict[str, Tensor] = {}

        def keep(name: str) -> Any:
            def hook(module: nn.Module, inputs: Any, output: Any) -> None:
                del module, inputs
                if not isinstance(output, Tensor) or len(output) != len(x):
                    raise ValueError(f"layers must name layers with a value for each row, got {name!r}")
                found[name] = output.detach().clone().flatten(1)  # a later layer may change it in place

            return hook

        handles = [self.module.get_submodule(name).register_forward_hook(keep(name)) for name in layers]
        try:
            with torch.no_grad():
                self._call(self._trained, x)
        finally:
            for handle in handles:
                handle.remove()
        silent = [name for name in layers if name not in found]
        if silent:
            raise ValueError(f"layers must name layers that the model calls, got {silent[0]!r}")
        return found

    def _call(self, parameters: Parameters, x: Tensor) -> Any:
        buffers = {name: buffer.clone() for name, buffer in self.module.named_buffers()}
        # A first layer that works in place would change the rows.
        return call_with(self.module, {**self._fixed, **buffers, **parameters}, x.clone())

    def widen(self, outputs: Tensor) -> Tensor:
        """Return two logits for the one of a binary classifier, other outputs as they are."""
        return widen_logit(outputs) if self.loss == "cross-entropy" and outputs.shape[-1] == 1 else outputs


_LISTS = (nn.Sequential, nn.ModuleList, nn.ModuleDict)


def validate_rows(subject: Subject, X: ArrayLike, y: ArrayLike) -> tuple[Tensor, Tensor]:
    """Return rows and targets `(n, K)` on the model's device; TypeError or ValueError naming `X` or `y`.

    Labels become one-hot; there must be at least two classes among them.
    """
    given = plain_array("y", y.detach().cpu().numpy() if isinstance(y, Tensor) else y)
    x = subject.rows(X)
    if given.ndim == 0 or len(given) != len(x):
        raise ValueError(f"y must hold one entry for each of {len(x)} rows, got shape {given.shape}")
    outputs = subject.outputs(x[:1])
    if subject.classifies:
        if given.ndim != 1:
            raise ValueError(f"y must be labels (rows,), got shape {given.shape}")
        labels = subject.labels(given, outputs.shape[1])
        if len(np.unique(labels)) < 2:
            raise ValueError(f"y must have at least two classes, got one class: {given.tolist()[0]!r}")
        target = torch.zeros(len(x), outputs.shape[1], dtype=outputs.dtype)
        target[torch.arange(len(x)), torch.from_numpy(labels)] = 1.0
        return x, target.to(outputs.device)
    if given.dtype.kind not in "fiu" or not np.isfinite(given).all():
        raise ValueError(f"y must hold finite numbers, got {_describe_numbers(given)}")
    if subject.loss == "poisson" and given.min() < 0:
        raise ValueError(f"y must be at least 0 for the Poisson loss, got {given.min()}")
    target = torch.from_numpy(given.reshape(len(x), -1).astype(np.float64)).to(outputs.dtype)
    if not bool(torch.isfinite(target).all()):
        raise ValueError(f"y must fit the {outputs.dtype} of the model, got entries up to {np.abs(given).max():.1e}")
    if target.shape[1] != outputs.shape[1]:
        raise ValueError(f"y must have {outputs.shape[1]} columns, as the model has outputs, got {target.shape[1]}")
    return x, target.to(outputs.device)


def read_finite_rows(X: ArrayLike, dtype: torch.dtype) -> Tensor:
    """Return rows `(n, …)` as a tensor; TypeError or ValueError naming `X`."""
    array = plain_array("X", X.detach().cpu().numpy() if isinstance(X, Tensor) else X)
    if array.dtype.kind not in "fiub":
        raise TypeError(f"X must hold real numbers, got dtype {array.dtype}")
    if array.ndim < 2 or len(array) == 0:
        raise ValueError(f"X must be (rows, …) with at least one row, got shape {array.shape}")
    bad = int(np.count_nonzero(~np.isfinite(array)))
    if bad:
        raise ValueError(f"X must be finite, got {bad} NaN or infinite of {array.size} entries")
    rows = torch.tensor(np.ascontiguousarray(array, np.float64), dtype=dtype)
    if not bool(torch.isfinite(rows).all()):
        raise ValueError(f"X must fit the {dtype} of the model, got entries up to {np.abs(array).max():.1e}")
    return rows


def _check_module(module: nn.Module) -> None:
    parameters = list(module.named_parameters())
    if not parameters:
        raise ValueError(f"model must have parameters, got a {type(module).__name__} without any")
    if not any(parameter.requires_grad for _, parameter in parameters):
        raise ValueError("model must have parameters that require gradients, got frozen ones only")
    for name, parameter in parameters:
        if isinstance(parameter, nn.parameter.UninitializedParameter):
            raise ValueError(f"model must have initialised parameters, got {name!r} without a shape")
        if not parameter.is_floating_point():
            raise TypeError(f"model must have real parameters, got {name!r} of {parameter.dtype}")
        if not bool(torch.isfinite(parameter).all()):
            raise ValueError(f"model must have finite parameters, got NaN or infinite ones in {name!r}")
    for name, part in module.named_modules():
        if isinstance(part, UNBATCHED) and (part.training or part.running_mean is None):
            raise ValueError(
                f"model must not normalise by the batch, where a row has no gradient of its own: got {name!r}, a "
                f"{type(part).__name__} in training mode; call model.eval()"
            )
        if isinstance(part, RANDOM) and part.training and getattr(part, "p", 1.0) > 0:
            raise ValueError(
                f"model must not be random: got {name!r}, a {type(part).__name__} in training mode; call model.eval()"
            )


def _describe_numbers(array: NDArray[Any]) -> str:
    if array.dtype.kind not in "fiu":
        return f"dtype {array.dtype}"
    return f"{int(np.count_nonzero(~np.isfinite(array)))} NaN or infinite of {array.size} entries"


def _list_few(classes: NDArray[Any]) -> str:
    shown = ", ".join(map(repr, classes[:6].tolist()))
    return shown + (", …" if len(classes) > 6 else "")
