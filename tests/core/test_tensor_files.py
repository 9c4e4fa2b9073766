"""What is written to a safetensors file is read back with each entry at its place."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from relaxon.core.tensor_files import write_tensors

pytest.importorskip("safetensors")
ROOT = Path(__file__).parents[2]
WHOLE = np.arange(24.0).reshape(2, 3, 4)
ARRAYS = {
    "contiguous": WHOLE,
    "transposed": WHOLE.T,
    "axes exchanged": WHOLE.swapaxes(0, 1),
    "Fortran order": np.asfortranarray(WHOLE),
    "strided": WHOLE[:, ::2, 1::2],
    "negative strides": WHOLE[::-1, :, ::-1],
    "a part": WHOLE[1:, 1:],
    "broadcast": np.broadcast_to(np.arange(4.0), (3, 4)),
    "0-d": np.array(3.5),
    "0-d of a part": WHOLE[1, 2, 3:4].reshape(()),
    "empty": np.empty((0, 3)),
    "empty transposed": np.empty((0, 3)).T,
    "big-endian transposed": WHOLE.astype(">f8").T,
    "complex64 transposed": (WHOLE + 1j).astype(np.complex64).T,
    "bytes strided": np.arange(12, dtype=np.uint8)[::3],
    "int64 Fortran": np.asfortranarray(np.arange(6).reshape(2, 3)),
}


def tensor_kinds():
    torch = pytest.importorskip("torch")
    whole = torch.arange(24.0).reshape(2, 3, 4)
    z = torch.complex(whole, -whole - 1)
    return {
        "contiguous": whole,
        "transposed": whole.permute(2, 1, 0),
        "strided": whole[:, ::2, 1::2],
        "flipped": whole.flip(0)[:, :, ::2],
        "a part": whole[1:, 1:],
        "expanded": torch.arange(4.0).expand(3, 4),
        "channels last": whole[None].contiguous(memory_format=torch.channels_last),
        "conjugated": z.conj(),
        "conjugated and transposed": z.mH,
        "imaginary part of a conjugate": z.conj().imag,
        "0-d": torch.tensor(3.5),
        "0-d conjugated": torch.tensor(1 + 2j).conj(),
        "empty": torch.empty(0, 3),
        "a transposed parameter": torch.nn.Parameter(whole.permute(2, 0, 1)),
    }


@pytest.mark.parametrize("kind", ARRAYS)
def test_an_array_of_any_strides_is_read_back_as_it_was(kind, tmp_path):
    from safetensors.numpy import load_file

    array = ARRAYS[kind]
    before = array.tobytes()
    write_tensors(tmp_path / "file", {"a": array, "beside": WHOLE})
    found = load_file(tmp_path / "file")
    assert found["a"].shape == array.shape
    assert found["a"].dtype == array.dtype.newbyteorder("=")
    np.testing.assert_array_equal(found["a"], array)
    np.testing.assert_array_equal(found["beside"], WHOLE)
    assert array.tobytes() == before


@pytest.mark.parametrize("kind", [*tensor_kinds()])
def test_a_tensor_of_any_strides_and_lazy_bits_is_read_back_as_it_was(kind, tmp_path):
    import torch
    from safetensors.torch import load_file

    tensor = tensor_kinds()[kind]
    write_tensors(tmp_path / "file", {"a": tensor, "again": tensor}, {"note": "shared"})
    found = load_file(tmp_path / "file")
    for name in ("a", "again"):
        assert found[name].shape == tensor.shape
        assert found[name].dtype == tensor.dtype
        assert torch.equal(found[name], tensor.detach().resolve_conj().resolve_neg())


def test_the_header_carries_the_metadata(tmp_path):
    from safetensors import safe_open

    write_tensors(tmp_path / "file", {"a": WHOLE.T}, {"record": "{}"})
    with safe_open(tmp_path / "file", "np") as file:
        assert file.metadata() == {"record": "{}"}


def test_what_cannot_be_stored_is_refused_by_its_name(tmp_path):
    torch = pytest.importorskip("torch")
    with pytest.raises(TypeError, match="weights must be a plain array"):
        write_tensors(tmp_path / "file", {"weights": np.ma.masked_array(WHOLE, WHOLE > 3)})
    with pytest.raises(TypeError, match="weights must hold numbers"):
        write_tensors(tmp_path / "file", {"weights": np.array([None, 1])})
    with pytest.raises(TypeError, match="weights must be a torch tensor"):
        write_tensors(tmp_path / "file", {"beside": torch.ones(2), "weights": WHOLE})
    assert not (tmp_path / "file").exists()


def test_nothing_writes_past_it():
    """A store that calls the library itself writes wrong entries as soon as an array is transposed on its way there."""
    writes = re.compile(r"safetensors\.(?:numpy|torch) import [^\n]*\bsave|\bsafetensors\.(?:numpy|torch)\.save")
    own = ROOT / "solvers" / "tensor_files.py"
    found = [
        str(path.relative_to(ROOT))
        for room in ("solvers", "neuromorphic", "server", "src/relaxon/client", "src/relaxon/aio", "src/relaxon/cli")
        for path in (ROOT / room).rglob("*.py")
        if path != own and writes.search(path.read_text(encoding="utf-8"))
    ]
    assert found == []
