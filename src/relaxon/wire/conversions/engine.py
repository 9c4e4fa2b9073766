"""What tells one training service from another: its messages, and what they are read as."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from relaxon.core import errors
from relaxon.wire.conversions.jobs import unpacked

Progress = TypeVar("Progress")
Model = TypeVar("Model")


@dataclass(frozen=True, slots=True)
class Engine(Generic[Progress, Model]):
    """A service's message types, and how a model and a step of training are read."""

    watch: Any
    get: Any
    list: Any
    delete: Any
    message: Any
    """A stored model, as it travels."""
    model: type[Model]
    """What it is told of in."""
    told: Callable[[Any], Model]
    step: Callable[[Any], Progress]

    def name_of(self, model: object, argument: str = "model") -> str:
        """The name of a model that is given by name or told of; TypeError naming the argument."""
        if isinstance(model, self.model):
            return str(model.name)  # type: ignore[attr-defined]
        if not isinstance(model, str):
            raise TypeError(f"{argument} must be a model or its name, got {type(model).__name__}")
        return model

    def get_request(self, name: str) -> Any:
        """Asks for a stored model."""
        with errors.refusals():
            return self.get(name=self.name_of(name, "name"))

    def delete_request(self, model: str | Model) -> Any:
        """Has a stored model deleted."""
        with errors.refusals():
            return self.delete(name=self.name_of(model))

    def trained(self, response: Any) -> Model:
        """The model that a job ended with."""
        return self.told(unpacked(response, self.message()))
