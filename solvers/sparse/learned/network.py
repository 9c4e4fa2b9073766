"""The networks that predict the cost of candidate constants on a matrix, in NumPy, and their file."""
# Imported on first use, for its weight: safetensors.

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, fields
from functools import lru_cache
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from relaxon.solvers.sparse.amg.constants import DEFAULTS, Constants
from relaxon.solvers.sparse.learned.features import FEATURES

Single = NDArray[np.float32]
VERSION = "1"
"""Version of the file: the meaning of the features and the arrays."""
ARRAYS = ("mean", "scale", "low", "high", "hidden_weight", "hidden_bias", "output_weight", "output_bias")
FILE, CARD = "constants.safetensors", "constants.json"


@dataclass(frozen=True, slots=True, eq=False)
class ConstantsNetwork:
    """An ensemble of networks with one hidden layer, from a matrix's features to the logarithms of candidates' costs.

    Costs are relative to that of the first of the `candidates` (C), the constants without learning. `mean`, `scale`,
    `low` and `high` (24,) standardise the features and clip them to the range of the training; `hidden_weight`
    (E, H, 24), `hidden_bias` (E, H), `output_weight` (E, C − 1, H), `output_bias` (E, C − 1) are those of E networks,
    all float32. A network is equal only to itself.
    """

    candidates: tuple[Constants, ...]
    caution: float
    """The candidate with the least mean cost of the networks, plus this many of their standard deviations, is chosen:
    where they disagree, the matrix is unlike those of the training."""
    mean: Single
    scale: Single
    low: Single
    high: Single
    hidden_weight: Single
    hidden_bias: Single
    output_weight: Single
    output_bias: Single

    def __post_init__(self) -> None:
        inputs, outputs = len(FEATURES), len(self.candidates) - 1
        members, hidden = self.hidden_bias.shape
        expected = [(inputs,)] * 4 + [(members, hidden, inputs), (members, hidden)]
        expected += [(members, outputs, hidden), (members, outputs)]
        for name, shape in zip(ARRAYS, expected, strict=True):
            array = getattr(self, name)
            if array.shape != shape or array.dtype != np.float32 or not np.isfinite(array).all():
                raise ValueError(f"{name} must be finite float32 of shape {shape}, got {array.dtype} {array.shape}")

    @property
    def count(self) -> int:
        """The number of learned parameters."""
        return sum(getattr(self, name).size for name in ARRAYS)

    def standardise(self, features: Single) -> Single:
        """Return the features clipped to the range of the training and standardised, `(…, 24)`."""
        kept: Single = (np.clip(features, self.low, self.high) - self.mean) / self.scale
        return kept

    def foretell(self, features: Single) -> Single:
        """Predict the logarithms of the candidates' costs over the first one's by each network, `(24,) → (E, C)`."""
        hidden = np.maximum(self.hidden_weight @ self.standardise(features) + self.hidden_bias, 0)
        others = np.matmul(self.output_weight, hidden[:, :, None])[:, :, 0] + self.output_bias
        return np.concatenate([np.zeros((len(others), 1), np.float32), others], axis=1)

    def choose(self, features: Single) -> int:
        """Return the number of the candidate to take for a matrix's features `(24,)`."""
        costs = self.foretell(features)
        return int((costs.mean(axis=0) + self.caution * costs.std(axis=0)).argmin())

    def save(self, path: Path) -> str:
        """Write a safetensors file, and return its SHA-256."""
        from relaxon.core.tensor_files import write_tensors

        header = {
            "version": VERSION,
            "features": FEATURES,
            "candidates": [asdict(one) for one in self.candidates],
            "caution": self.caution,
        }
        # A single entry: the library writes several ones in an order that varies between runs.
        metadata = {"network": json.dumps(header)}
        write_tensors(path, {name: getattr(self, name) for name in ARRAYS}, metadata)
        return hashlib.sha256(path.read_bytes()).hexdigest()

    @classmethod
    def load(cls, path: Path) -> ConstantsNetwork:
        """Read a file of `save`; ValueError, naming the file, for another format, version or network."""
        from safetensors import SafetensorError, safe_open

        try:
            with safe_open(path, "np") as file:
                header = json.loads((file.metadata() or {}).get("network", "{}"))
                arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        except (OSError, SafetensorError) as error:
            raise ValueError(f"weights must be a safetensors file, got {str(path)!r}: {error}") from error
        if header.get("version") != VERSION or header.get("features") != list(FEATURES):
            raise ValueError(
                f"weights must be of version {VERSION} of the network of a matrix's constants, got {str(path)!r} "
                f"of version {header.get('version')!r}; train them again by relaxon train sparse-constants"
            )
        if set(arrays) != set(ARRAYS):
            raise ValueError(f"weights must hold {', '.join(ARRAYS)}, got {', '.join(sorted(arrays))} in {str(path)!r}")
        known = {field.name for field in fields(Constants)}
        candidates = []
        for values in header["candidates"]:
            if unknown := set(values) - known:
                raise ValueError(f"weights must name known constants, got {', '.join(sorted(unknown))}")
            candidates.append(Constants(**values))
        candidates[0] = DEFAULTS  # the choice without learning, whatever it was at the training
        return cls(tuple(candidates), float(header["caution"]), **arrays)


def load_card() -> dict[str, Any]:
    """Return the card of the shipped network: its training, and the SHA-256 of its file."""
    path = resources.files("relaxon.solvers.sparse.learned") / "weights" / CARD
    found: dict[str, Any] = json.loads(path.read_text("utf-8"))
    return found


@lru_cache(maxsize=1)
def load_shipped() -> ConstantsNetwork:
    """Return the shipped network; ValueError where its file is not the one that its card describes."""
    with resources.as_file(resources.files("relaxon.solvers.sparse.learned") / "weights" / FILE) as path:
        found = hashlib.sha256(path.read_bytes()).hexdigest()
        if found != load_card()["sha256"]:
            raise ValueError(
                f"{FILE} must have the SHA-256 {load_card()['sha256']}, has {found}: install the package again"
            )
        return ConstantsNetwork.load(path)
