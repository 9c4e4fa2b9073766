"""Per-sample gradients, vectorised in chunks of bounded memory, and their norms without computing the gradients."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor, nn
from torch.func import functional_call, grad, vmap

from relaxon.core import validation
from relaxon.neuromorphic.diagnostics.losses import row_losses
from relaxon.neuromorphic.diagnostics.models import as_subject, as_subjects
from relaxon.neuromorphic.diagnostics.shallow import Affine
from relaxon.neuromorphic.diagnostics.subjects import ModuleSubject, Subject, validate_rows

MAX_BYTES = 256 * 2**20
"""Default bound on the bytes for the gradients of a chunk and for their computation."""
COPIES = 3
"""Approximate number of copies of a chunk's gradients during their computation."""
CACHED_BYTES = 2**20
"""Preferred size of a chunk, about that of a processor's cache: larger chunks are slower."""
FEWEST_ROWS = {True: 16, False: 256}
"""Smallest number of rows in a chunk where memory allows, by whether gradients are outer products: a call of
`torch.func` costs about a millisecond, an outer product almost nothing."""
ACTIVATION_COPIES = 4
"""Copies of a layer's values: values and derivatives, before and after the nonlinearity."""
FORWARD_ROWS = 4096
"""Number of rows evaluated at a time where no row's gradient is stored."""

Progress = Callable[[int, int], object]
"""A function called with the number of rows done and the total number of rows."""


@dataclass(frozen=True, slots=True)
class GradientChunk:
    """Gradients of the losses of consecutive rows: `gradients[name]` is `(rows, *shape of the parameter)`."""

    rows: slice
    gradients: dict[str, Tensor]

    def flat(self) -> Tensor:
        """Return the gradients as a matrix `(rows, parameters)`, in the order of the parameters."""
        return torch.cat([part.flatten(1) for part in self.gradients.values()], 1)


def per_sample_gradients(
    model: Any,
    X: ArrayLike,
    y: ArrayLike,
    *,
    loss: str = "auto",
    max_bytes: int = MAX_BYTES,
    progress: Progress | None = None,
) -> Iterator[GradientChunk]:
    """Iterate over the gradients of each row's loss with respect to the parameters, in chunks of rows.

    Parameters
    ----------
    model : a torch module from rows to outputs, a fitted estimator with `to_torch()`, or a network trained by
        equilibrium propagation, whose gradient is that at its free equilibrium, with an exact adjoint.
    X : `(rows, …)` real and finite. y : labels `(rows,)`, or values `(rows,)` or `(rows, outputs)`.
    loss : "auto", "cross-entropy", "squared" (½‖·‖²) or "poisson".
    max_bytes : bound on the bytes for a chunk's gradients and their computation; it does not affect the results.
    progress : called with the rows done and the total number of rows after each chunk.

    Raises
    ------
    TypeError, ValueError : naming the argument, before any work: modules without parameters, batch normalisation or
        dropout in training mode, NaN, a single class, a bound below the size of one row's gradient.

    The model's parameters, gradients, mode and buffers are not changed.

    >>> import torch
    >>> from relaxon.neuromorphic.diagnostics import per_sample_gradients
    >>> model = torch.nn.Linear(2, 2)
    >>> chunk = next(per_sample_gradients(model, [[1.0, 2.0], [3.0, 4.0]], [0, 1]))
    >>> {name: tuple(part.shape) for name, part in chunk.gradients.items()}
    {'weight': (2, 2, 2), 'bias': (2, 2)}
    """
    subject = as_subject(model, loss, y)
    x, target = validate_rows(subject, X, y)
    size = count_chunk_rows(subject, max_bytes)
    if is_factored(subject):
        assert isinstance(subject, ModuleSubject)
        many = _forward_rows(subject, x, size, max_bytes)
        return _factor_chunks(subject, x, target, (many, size), progress)
    return _yield_chunks(subject, x, target, size, progress)


Prepared = tuple[Subject, Tensor, Tensor]
"""A model with its rows and their targets."""


def prepare_models(models: Any, X: ArrayLike, y: ArrayLike, loss: str, max_bytes: int | None = None) -> list[Prepared]:
    """Return each model with its rows and targets; `max_bytes`, where given, must hold the gradient of one row."""
    subjects = as_subjects(models, loss, y)
    if max_bytes is not None:
        for subject in subjects:
            count_chunk_rows(subject, max_bytes)
    return [(subject, *validate_rows(subject, X, y)) for subject in subjects]


def pass_through(prepared: list[Prepared], progress: Progress | None) -> Iterator[Prepared]:
    """Yield the models, and call `progress` after each with the rows done and the total number of rows."""
    for number, model in enumerate(prepared, 1):
        yield model
        if progress is not None:
            progress(len(model[1]) * number, len(model[1]) * len(prepared))


def _yield_chunks(
    subject: Subject, x: Tensor, target: Tensor, size: int, progress: Progress | None
) -> Iterator[GradientChunk]:
    by_row = vectorise_gradients(subject)
    parameters = subject.parameters()
    for rows in yield_slices(len(x), size):
        held = subject.constants(x[rows], target[rows])
        yield GradientChunk(rows, by_row(parameters, x[rows], target[rows], *held))
        if progress is not None:
            progress(min(rows.stop, len(x)), len(x))


def _factor_chunks(
    subject: ModuleSubject, x: Tensor, target: Tensor, sizes: tuple[int, int], progress: Progress | None
) -> Iterator[GradientChunk]:
    """Yield the same chunks by outer products: one pass of `sizes[0]` rows serves many chunks of `sizes[1]` rows."""
    forward, size = sizes
    for many in yield_slices(len(x), forward):
        factors = _find_factors(subject, x[many], target[many])
        held = len(x[many])
        for rows in yield_slices(held, size):
            found = slice(many.start + rows.start, many.start + min(rows.stop, held))
            yield GradientChunk(found, _form_outer_products(factors, rows, subject.parameters()))
            if progress is not None:
                progress(found.stop, len(x))


def vectorise_gradients(subject: Subject) -> Callable[..., dict[str, Tensor]]:
    """Return the function from parameters and rows to the gradient of each row."""

    def of_rows(parameters: dict[str, Tensor], x: Tensor, target: Tensor, *held: Tensor) -> dict[str, Tensor]:
        dims = (None, *[0] * (2 + len(held)))
        found: dict[str, Tensor] = vmap(grad(subject.row_loss), in_dims=dims)(parameters, x, target, *held)
        return found

    return of_rows


def count_chunk_rows(subject: Subject, max_bytes: int) -> int:
    """Return the number of rows in a chunk; ValueError where the gradient of one row does not fit."""
    bound = validation.positive_int("max_bytes", max_bytes)
    parameters = subject.parameters()
    one = COPIES * sum(value.numel() * value.element_size() for value in parameters.values())
    if bound < one:
        raise ValueError(f"max_bytes must be at least {one}, the size of one row's gradient, got {max_bytes}")
    return min(bound // one, max(FEWEST_ROWS[is_factored(subject)], CACHED_BYTES * COPIES // one))


def is_factored(subject: Subject) -> bool:
    """Return whether the rows' gradients are outer products."""
    return isinstance(subject, ModuleSubject) and is_sequence_of_linear(subject.module)


def _forward_rows(subject: ModuleSubject, x: Tensor, size: int, max_bytes: int) -> int:
    """Return the number of rows of one pass through a factored model: as many as fit."""
    widths = [part.in_features + part.out_features for part in subject.module.modules() if isinstance(part, nn.Linear)]
    one = x.element_size() * (x[0].numel() + ACTIVATION_COPIES * sum(widths))
    return max(1, min(FORWARD_ROWS, max_bytes // one) // size) * size


def yield_slices(rows: int, size: int) -> Iterator[slice]:
    """Yield slices of `size` rows; the last may end beyond `rows`."""
    for low in range(0, rows, size):
        yield slice(low, low + size)


@dataclass(frozen=True, slots=True)
class GradientMoments:
    """Moments of m rows' gradients, float64: squared norms by row and parameter, and the mean by parameter."""

    squares: dict[str, NDArray[np.float64]]
    means: dict[str, NDArray[np.float64]]

    @property
    def norms(self) -> NDArray[np.float64]:
        """`‖g_i‖` over all parameters, `(m,)`."""
        return np.asarray(np.sqrt(np.sum(list(self.squares.values()), axis=0)))


def measure_moments(
    subject: Subject, x: Tensor, target: Tensor, max_bytes: int, progress: Progress | None = None
) -> GradientMoments:
    """Return squared norms and mean of the rows' gradients.

    For a sequence of `nn.Linear` and elementwise layers no row's gradient is needed: that of a weight is the outer
    product `δ aᵀ` of its output's derivative and its input, so `‖δ aᵀ‖² = ‖δ‖² ‖a‖²`, and one backward pass gives all
    of them.
    """
    size = count_chunk_rows(subject, max_bytes)
    squares: dict[str, list[Tensor]] = {name: [] for name in subject.parameters()}
    totals = {name: torch.zeros_like(value, dtype=torch.float64) for name, value in subject.parameters().items()}
    factored = is_factored(subject)
    if factored:
        assert isinstance(subject, ModuleSubject)
        size = _forward_rows(subject, x, size, max_bytes)
    by_row = vectorise_gradients(subject)
    for rows in yield_slices(len(x), size):
        if factored:
            assert isinstance(subject, ModuleSubject)
            _add_factors(_find_factors(subject, x[rows], target[rows]), squares, totals)
        else:
            held = subject.constants(x[rows], target[rows])
            for name, part in by_row(subject.parameters(), x[rows], target[rows], *held).items():
                wide = part.flatten(1)
                squares[name].append(wide.square().sum(1).double())
                totals[name] += part.sum(0).double()
        if progress is not None:
            progress(min(rows.stop, len(x)), len(x))
    return GradientMoments(
        {name: torch.cat(parts).cpu().numpy() for name, parts in squares.items()},
        {name: (total / len(x)).cpu().numpy() for name, total in totals.items()},
    )


def is_sequence_of_linear(module: nn.Module) -> bool:
    """Return whether the module is a sequence of `nn.Linear` and elementwise layers, and nothing else."""
    if isinstance(module, nn.Linear):
        return type(module) is nn.Linear and not _is_parametrised(module)
    if type(module) is not nn.Sequential:
        # In-place functions overwrite the values whose derivatives are needed.
        return type(module) in _ELEMENTWISE and not getattr(module, "inplace", False)
    parts = list(module)
    # The gradient of a layer that is used twice is a sum of outer products.
    alone = len({id(part) for part in module.modules()}) == sum(1 for _ in module.named_modules(remove_duplicate=False))
    tied = len(list(module.named_parameters())) < len(list(module.named_parameters(remove_duplicate=False)))
    hooked = any(part._forward_hooks or part._forward_pre_hooks for part in module.modules())
    return alone and not tied and not hooked and all(is_sequence_of_linear(part) for part in parts)


_ELEMENTWISE = (nn.ReLU, nn.LeakyReLU, nn.ELU, nn.GELU, nn.SiLU, nn.Tanh, nn.Sigmoid, nn.Softplus, nn.Identity,
                nn.Dropout, Affine)  # fmt: skip


def _is_parametrised(module: nn.Module) -> bool:
    return hasattr(module, "parametrizations") or bool(module._forward_pre_hooks or module._forward_hooks)


@dataclass(frozen=True, slots=True)
class _Factors:
    """For an `nn.Linear` on consecutive rows: its input a and the loss's derivative by its output, `(rows, …)` each."""

    name: str
    a: Tensor
    delta: Tensor


def _find_factors(subject: ModuleSubject, x: Tensor, target: Tensor) -> list[_Factors]:
    """Return the factors of the linear layers' gradients, by one forward and one backward pass."""
    met: list[tuple[str, Tensor, Tensor]] = []

    def keep(name: str) -> Callable[[nn.Module, Any, Any], None]:
        def hook(module: nn.Module, given: Any, made: Any) -> None:
            del module
            met.append((name, given[0].detach(), made))

        return hook

    leaves = {name: value.detach().clone().requires_grad_() for name, value in subject.module.named_parameters()}
    layers = [(name, part) for name, part in subject.module.named_modules() if isinstance(part, nn.Linear)]
    handles = [part.register_forward_hook(keep(name)) for name, part in layers]
    try:
        with torch.enable_grad():
            outputs = subject.widen(functional_call(subject.module, leaves, (x,)))
            total = row_losses(subject.loss, outputs, target).sum()
            derivatives = torch.autograd.grad(total, [made for _, _, made in met])
    finally:
        for handle in handles:
            handle.remove()
    return [_Factors(f"{name}." if name else "", a, d) for (name, a, _), d in zip(met, derivatives, strict=True)]


def _form_outer_products(factors: list[_Factors], rows: slice, names: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return the gradients of these rows, in the order of the parameters."""
    found: dict[str, Tensor] = {}
    for layer in factors:
        a, delta = layer.a[rows], layer.delta[rows]
        found[layer.name + "weight"] = delta[:, :, None] * a[:, None, :]
        found[layer.name + "bias"] = delta
    return {name: found[name] for name in names}


def _add_factors(factors: list[_Factors], squares: dict[str, list[Tensor]], totals: dict[str, Tensor]) -> None:
    """Add squared norms and sums of the rows' gradients, `‖δ‖² ‖a‖²` and `Σ δ aᵀ`."""
    for layer in factors:
        size = layer.delta.square().sum(1).double()
        weight, bias = layer.name + "weight", layer.name + "bias"
        if weight in squares:
            squares[weight].append(size * layer.a.square().sum(1).double())
            totals[weight] += (layer.delta.T @ layer.a).double()
        if bias in squares:
            squares[bias].append(size)
            totals[bias] += layer.delta.sum(0).double()
