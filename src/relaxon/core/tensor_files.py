"""Arrays and tensors written to safetensors files with every entry in its place.

`safetensors.numpy` 0.8.0 writes the bytes of an array that is not C-contiguous in memory order, under the array's
logical shape: the file loads without an error, with its entries in the wrong places. `safetensors.torch` 0.8.0 writes
the bytes beneath torch's lazy conjugation and negation, and drops the flags. Every store and checkpoint of relaxon is
written by `write_tensors`, which corrects both first.

Imported on first use, for their weight: safetensors, torch.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import torch

Entry = TypeVar("Entry", NDArray[Any], "torch.Tensor")


def write_tensors(path: Path, tensors: Mapping[str, Entry], metadata: Mapping[str, str] | None = None) -> None:
    """Write NumPy arrays, or torch tensors, with any strides and on any device to a safetensors file.

    Parameters
    ----------
    path : the file. An existing one is overwritten in place; a caller who must not lose it writes to another first.
    tensors : by name, all of the same library. Entries may share memory with each other.
    metadata : strings for the header of the file.

    Raises
    ------
    TypeError : naming an entry that is neither an array nor a tensor, is masked, or has a dtype without a fixed size.
    """
    wanted = None if metadata is None else dict(metadata)
    if all(isinstance(entry, np.ndarray) for entry in tensors.values()):
        from safetensors.numpy import save_file

        save_file({name: _plain_array(name, entry) for name, entry in tensors.items()}, path, wanted)
        return
    from safetensors.torch import save_file as save_torch_file

    save_torch_file(_plain_tensors(tensors), path, wanted)


def _plain_array(name: str, array: Any) -> NDArray[Any]:
    """Return the array with its bytes in C order; no copy if they are."""
    if isinstance(array, np.ma.MaskedArray):
        raise TypeError(f"{name} must be a plain array to be stored, got a masked array")
    if array.dtype.hasobject:
        raise TypeError(f"{name} must hold numbers to be stored, got dtype {array.dtype}")
    # `ascontiguousarray` would give a scalar an axis.
    return np.asarray(array, array.dtype.newbyteorder("="), order="C")


def _plain_tensors(tensors: Mapping[str, Any]) -> dict[str, torch.Tensor]:
    """Return the tensors on the CPU, contiguous, without lazy flags, and without shared memory."""
    import torch

    plain: dict[str, torch.Tensor] = {}
    storages: set[int] = set()
    for name, tensor in tensors.items():
        if not isinstance(tensor, torch.Tensor):
            raise TypeError(f"{name} must be a torch tensor beside others, got {type(tensor).__name__}")
        entry = tensor.detach().cpu().resolve_conj().resolve_neg().contiguous()
        place = entry.untyped_storage().data_ptr()
        # The library refuses tensors that share memory.
        plain[name] = entry.clone() if place in storages else entry
        storages.add(place)
    return plain
