"""Tables that a training service is sent: announced by a header, checked, and read again by the job's process.

Imported on first use, for their weight: safetensors.
"""

from __future__ import annotations

import math
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from relaxon.server.gate import errors
from relaxon.server.jobs.folder import DATA
from relaxon.server.training.limits import check_bytes
from relaxon.wire.conversions import labels, tables
from relaxon.wire.tensors import AnnouncedArray

if TYPE_CHECKING:
    from relaxon.server.config.settings import ServerSettings
    from relaxon.server.jobs.records import Json

SEEDS = 2**32
"""NumPy takes seeds below this number."""


@dataclass(frozen=True, slots=True)
class AnnouncedRows:
    """The announced arrays of a table with targets."""

    features: AnnouncedArray
    target: AnnouncedArray
    weights: AnnouncedArray | None
    labels: NDArray[Any] | None
    """The classes of a classification; None for a regression."""

    @property
    def outputs(self) -> int:
        """The number of classes, or of the target's columns."""
        return math.prod(self.target.shape[1:]) if self.labels is None else len(self.labels)

    @property
    def classes(self) -> Mapping[str, Any] | None:
        """The labels as JSON values."""
        return None if self.labels is None else labels.classes_json(self.labels)

    @property
    def arrays(self) -> dict[str, AnnouncedArray]:
        """The arrays by name, in order of arrival."""
        found = {"features": self.features, "target": self.target}
        return found if self.weights is None else {**found, "weights": self.weights}

    def check(self, arrays: Mapping[str, NDArray[Any]], missing: bool = False) -> None:
        """Raise INVALID_ARGUMENT, naming the array, for data that no estimator takes.

        `missing` allows NaN in the features.
        """
        check_finite("features", arrays["features"], missing)
        check_finite("target", arrays["target"])
        if self.labels is not None:
            check_places("target", arrays["target"], len(self.labels))
        if "weights" in arrays:
            weights = arrays["weights"]
            check_finite("weights", weights)
            if weights.min() < 0 or weights.max() == 0:
                raise errors.invalid("weights", "weights must be at least 0, and not all 0")


def announce_rows(header: Any) -> AnnouncedRows:
    """Return the arrays of a header that trains on a table with targets.

    INVALID_ARGUMENT naming the array that does not fit the others.
    """
    features = announce_table("features", header.features)
    target = AnnouncedArray.of("target", header.target)
    classes = announce_classes(header) if header.HasField("classes") else None
    rows = features.shape[0]
    if target.shape[0] != rows or len(target.shape) > (2 if classes is None else 1):
        wanted = f"({rows},)" if classes is not None else f"({rows},) or ({rows}, outputs)"
        raise errors.invalid("target", f"target must have shape {wanted}, got {target.shape}")
    weights = announce_column("weights", header.weights, rows) if header.HasField("weights") else None
    return AnnouncedRows(features, target, weights, classes)


def announce_table(name: str, header: Any) -> AnnouncedArray:
    """Return an announced array; INVALID_ARGUMENT unless it has rows and columns."""
    table = AnnouncedArray.of(name, header)
    if len(table.shape) != 2:
        raise errors.invalid(name, f"{name} must have two axes, rows and columns, got shape {table.shape}")
    return table


def announce_features(header: Any, columns: int, settings: ServerSettings) -> AnnouncedArray:
    """Return the announced rows that a model of so many columns is to answer for.

    INVALID_ARGUMENT where they do not fit the model, RESOURCE_EXHAUSTED where they are too many.
    """
    features = announce_table("features", header)
    if features.shape[1] != columns:
        raise errors.invalid("features", f"features must have the model's {columns} columns, got {features.shape[1]}")
    check_bytes(math.prod(features.shape), settings)
    return features


def announce_column(name: str, header: Any, rows: int) -> AnnouncedArray:
    """Return an announced array; INVALID_ARGUMENT unless it has one axis with an entry for each of `rows` rows."""
    column = AnnouncedArray.of(name, header)
    if column.shape != (rows,):
        raise errors.invalid(name, f"{name} must have shape ({rows},), got {column.shape}")
    return column


def announce_classes(header: Any) -> NDArray[Any]:
    """Return the classes of a header that trains a classifier, of which there are at least two."""
    with errors.refusing():
        return labels.validate_classes("classes", header.classes, least=2)


def check_finite(name: str, array: NDArray[Any], missing: bool = False) -> None:
    """Raise INVALID_ARGUMENT where an entry is infinite or, unless entries may be `missing`, NaN."""
    with errors.refusing():
        tables.check_finite(name, array, missing)


def check_places(name: str, places: NDArray[Any], count: int) -> None:
    """Raise INVALID_ARGUMENT where an entry is not the place of one of `count` classes."""
    check_finite(name, places)
    if not ((places == np.floor(places)) & (places >= 0) & (places < count)).all():
        raise errors.invalid(name, f"{name} must hold places among the {count} classes, from 0")


def draw_seed(settings: Any) -> int:
    """Return the `random_state` of a message, or a random one where it has none.

    It is drawn here, so that a job that starts again has the same one. INVALID_ARGUMENT for one that NumPy does not
    take.
    """
    if not settings.HasField("random_state"):
        return secrets.randbelow(SEEDS)
    if not 0 <= settings.random_state < SEEDS:
        raise errors.invalid("random_state", f"random_state must be from 0 to 2³² − 1, got {settings.random_state}")
    return int(settings.random_state)


def read_arrays(folder: Path, request: Json) -> dict[str, NDArray[Any]]:
    """Return the arrays of a job's folder, the target of a classification as labels."""
    from safetensors.numpy import load_file

    arrays = load_file(folder / DATA)
    if request.get("classes") is not None:
        arrays["target"] = labels.labels_array(**request["classes"])[arrays["target"].astype(np.int64)]
    return arrays
