"""Trained networks on disk: a safetensors file with the weights and a JSON file that describes the network."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError

from relaxon.neuromorphic.binary.layered import BinaryLayeredNetwork
from relaxon.neuromorphic.described_tensors import read_described, write_described
from relaxon.neuromorphic.equilibrium.networks.convolutional import ConvolutionalNetwork
from relaxon.neuromorphic.equilibrium.networks.layered import LayeredNetwork
from relaxon.neuromorphic.equilibrium.networks.residual import ResidualNetwork

FORMAT = 1
KINDS: dict[str, type[LayeredNetwork] | type[ConvolutionalNetwork] | type[ResidualNetwork]] = {
    "layered": LayeredNetwork,
    "convolutional": ConvolutionalNetwork,
    "binary": BinaryLayeredNetwork,
    "residual": ResidualNetwork,
}
ABOUT = ("format", "kind", "dtype", "card")
"""Entries of a description that are not arguments of the network."""
DTYPES = {"float32": torch.float32, "float64": torch.float64}
StoredNetwork = LayeredNetwork | ConvolutionalNetwork | ResidualNetwork


def describe(network: torch.nn.Module) -> dict[str, Any]:
    """Return the form of a network as JSON values; TypeError for one that cannot be stored."""
    for kind, made in KINDS.items():
        if type(network) is made:
            return {
                "format": FORMAT,
                "kind": kind,
                "dtype": str(network.dtype).removeprefix("torch."),
                **network.config(),
            }
    raise TypeError(
        f"network must be a LayeredNetwork, a ConvolutionalNetwork or a ResidualNetwork to be stored, "
        f"got {type(network).__name__}"
    )


def save_network(network: StoredNetwork, folder: Path | str, card: dict[str, Any] | None = None) -> None:
    """Write `network.safetensors` and `network.json` to a folder, which is created where missing.

    The weights of a binary network are stored as bits. `card` is further information on the model (accuracy, data,
    settings) as JSON values.
    """
    description = describe(network)
    if card is not None:
        description["card"] = json.loads(json.dumps(card, allow_nan=False))
    tensors = network.packed_state() if isinstance(network, BinaryLayeredNetwork) else network.state_dict()
    write_described(Path(folder), "network", tensors, description)


def load_network(folder: Path | str, device: str = "cpu") -> tuple[StoredNetwork, dict[str, Any]]:
    """Return the network of a folder and its card.

    Raises
    ------
    FileNotFoundError : where the folder contains no network.
    ValueError : for a damaged one.
    """
    path = Path(folder) / "network.safetensors"
    if not path.is_file():
        raise FileNotFoundError(f"folder must contain network.safetensors, got {str(folder)!r}")
    try:
        tensors, description = read_described(path)
    except (SafetensorError, KeyError, ValueError) as error:
        raise ValueError(f"{path} is not a stored network: {error}") from error
    network = build(description)
    card: dict[str, Any] = description.get("card", {})
    if isinstance(network, BinaryLayeredNetwork):
        try:
            network.load_packed(tensors)
        except ValueError as error:
            raise ValueError(f"{path} is not a stored binary network: {error}") from error
        if not all(bool(torch.isfinite(bias).all()) for bias in network.biases):
            raise ValueError(f"{path} must hold finite weights, got NaN or infinite ones")
        return network.to(device), card
    expected = {name: tuple(tensor.shape) for name, tensor in network.state_dict().items()}
    held = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
    if expected != held:
        wrong = sorted(name for name in expected.keys() | held.keys() if expected.get(name) != held.get(name))
        raise ValueError(f"{path} must hold the tensors its description says, got others for {', '.join(wrong)}")
    if not all(bool(torch.isfinite(tensor).all()) for tensor in tensors.values()):
        raise ValueError(f"{path} must hold finite weights, got NaN or infinite ones")
    network.load_state_dict(tensors)
    return network.to(device), card


def build(description: dict[str, Any]) -> StoredNetwork:
    """Return a network of the form described; ValueError for a form that this version does not know."""
    if description.get("format") != FORMAT or description.get("kind") not in KINDS:
        got = f"format {description.get('format')!r}, kind {description.get('kind')!r}"
        raise ValueError(f"a stored network must be of format {FORMAT} and of kind {' or '.join(KINDS)}, got {got}")
    arguments = {name: value for name, value in description.items() if name not in ABOUT}
    make: Callable[..., StoredNetwork] = KINDS[description["kind"]]
    try:
        return make(**arguments, dtype=DTYPES[description["dtype"]])
    except (KeyError, TypeError) as error:
        raise ValueError(f"a stored network must have the arguments of its kind, got {error}") from error
