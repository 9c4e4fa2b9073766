"""Learned proximal operators that are part of the package."""

# Imported on first use, for its weight: `model`.

from __future__ import annotations

from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from relaxon.neuromorphic.proximal.model import ProximalModel

WEIGHTS = Path(__file__).parent / "weights"


def list_pretrained() -> tuple[str, ...]:
    """Return the names that `pretrained` accepts."""
    return tuple(sorted(path.stem for path in WEIGHTS.glob("*.safetensors")))


def pretrained(name: str) -> ProximalModel:
    """Return a shipped model; its `card` describes the training data and the command.

    ValueError for an unknown name.
    """
    from relaxon.neuromorphic.proximal.model import read_model

    names = list_pretrained()
    if name not in names:
        near = get_close_matches(str(name), names, 1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise ValueError(
            f"name must be one of {', '.join(names) or 'none: no weights are shipped'}, got {name!r}{hint}"
        )
    return read_model(WEIGHTS / f"{name}.safetensors")
