"""Conversion of lists of tensors to real vectors `(samples, n)`, as the linear solvers require, and back."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor


@dataclass(frozen=True)
class Packing:
    """The shapes and dtypes of the tensors of a state.

    A complex number counts as two real unknowns, so that also maps that are linear over the reals only (those with a
    conjugate in them) are matrices here; the inner product is `Re⟨u, v⟩`, torch's own.
    """

    shapes: tuple[torch.Size, ...]
    dtypes: tuple[torch.dtype, ...]
    batch: torch.Size
    dtype: torch.dtype
    device: torch.device

    @classmethod
    def of(cls, leaves: Sequence[Tensor], batch_dims: int) -> Packing:
        """Return the packing of tensors whose first `batch_dims` axes count the samples."""
        batch = leaves[0].shape[:batch_dims]
        for leaf in leaves:
            if leaf.ndim < batch_dims or leaf.shape[:batch_dims] != batch:
                raise ValueError(
                    f"batch_dims={batch_dims} must be axes that all leaves of x share, got shapes "
                    f"{', '.join(str(tuple(one.shape)) for one in leaves)}"
                )
        dtype = torch.float32 if all(leaf.dtype.to_real() == torch.float32 for leaf in leaves) else torch.float64
        shapes, dtypes = tuple(leaf.shape for leaf in leaves), tuple(leaf.dtype for leaf in leaves)
        return cls(shapes, dtypes, batch, dtype, leaves[0].device)

    @cached_property
    def is_plain(self) -> bool:
        """Whether the state is one real tensor, which only needs another shape."""
        return self.dtypes == (self.dtype,)

    @cached_property
    def samples(self) -> int:
        """Number of samples; 1 without a batch."""
        return math.prod(self.batch)

    @cached_property
    def unknowns(self) -> int:
        """Number of real unknowns of a sample."""
        real = sum(
            math.prod(shape) * (2 if dtype.is_complex else 1)
            for shape, dtype in zip(self.shapes, self.dtypes, strict=True)
        )
        return real // max(self.samples, 1)

    def pack(self, leaves: Sequence[Tensor]) -> Tensor:
        """Return tensors of these shapes as `(samples, n)` real numbers."""
        if self.is_plain:
            return leaves[0].reshape(self.samples, -1)
        parts = [
            (torch.view_as_real(leaf.resolve_conj()) if leaf.is_complex() else leaf)
            .reshape(self.samples, -1)
            .to(self.dtype)
            for leaf in leaves
        ]
        return parts[0] if len(parts) == 1 else torch.cat(parts, dim=1)

    def unpack(self, vector: Tensor) -> list[Tensor]:
        """Return `(samples, n)` real numbers as tensors of these shapes and dtypes."""
        if self.is_plain:
            return [vector.reshape(self.shapes[0])]
        leaves, start = [], 0
        for shape, dtype in zip(self.shapes, self.dtypes, strict=True):
            count = math.prod(shape) * (2 if dtype.is_complex else 1) // max(self.samples, 1)
            part = vector[:, start : start + count]
            start += count
            if dtype.is_complex:
                part = torch.view_as_complex(part.reshape(*shape, 2).to(dtype.to_real()).contiguous())
            leaves.append(part.reshape(shape).to(dtype))
        return leaves
