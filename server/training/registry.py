"""The engines that this process's servers train models with."""

from __future__ import annotations

from relaxon.server.training.engine import TrainingEngine
from relaxon.server.training.engines import boosting, convex, energy, equilibrium, proximal

BUILT_IN = (boosting.ENGINE, convex.ENGINE, energy.ENGINE, equilibrium.ENGINE, proximal.ENGINE)
ENGINES: dict[str, TrainingEngine] = {engine.kind: engine for engine in BUILT_IN}
"""All engines by kind. A server serves those that are registered when it starts."""


def register_engine(engine: TrainingEngine) -> None:
    """Have the servers of this process train with one more engine; ValueError where its kind is taken."""
    if engine.kind in ENGINES:
        raise ValueError(f"kind {engine.kind!r} is taken by the engine of {ENGINES[engine.kind].module}")
    ENGINES[engine.kind] = engine
