"""Small proximal operators, with random weights or barely trained, for tests of what the service does with them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

import relaxon
from relaxon.neuromorphic.proximal import NetworkSettings, ProximalModel
from relaxon.neuromorphic.proximal.potentials import build_potential

SHAPE = (6, 5)
DATA = np.random.default_rng(0).laplace(size=(120, *SHAPE))
NETWORK = {"shape": SHAPE, "hidden": (12,)}


def untrained(folder: Path, **changes: Any) -> ProximalModel:
    """A model that has not learned anything, which is in `folder` too."""
    model = ProximalModel(build_potential(NetworkSettings(**{**NETWORK, **changes})), noise=0.5)
    model.save(folder)
    return model


@contextmanager
def uploaded(target: str, folder: Path, name: str, **changes: Any) -> Iterator[ProximalModel]:
    """A model that has not learned anything, on the server under that name for the block."""
    model = untrained(folder, **changes)
    with relaxon.connect(target) as client:
        client.models.upload("proximal", folder, name=name)
        yield model
        client.proximal.delete_model(name)
