"""What sets one training service apart from another: its messages, and how they are read."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from google.protobuf.message_factory import GetMessageClass

from relaxon.core import errors
from relaxon.wire.conversions.jobs import unpack_result

Progress = TypeVar("Progress")
Model = TypeVar("Model")


@dataclass(frozen=True, slots=True)
class EngineMessages(Generic[Progress, Model]):
    """A training service: its messages, which its descriptor names, and the dataclasses that they are read as.

    Each such service has the methods Train, Watch, GetModel, ListModels and DeleteModel beside its own.
    """

    kind: str
    """The name of the engine: of its jobs and its stored models."""
    service: Any
    """The descriptor of the gRPC service."""
    files: tuple[str, ...]
    """The files of a saved model."""
    model: type[Model]
    """The description of a stored model."""
    told: Callable[[Any], Model]
    """Reads that description from its message."""
    step: Callable[[Any], Progress]
    """Reads a step of training from its message."""

    def request(self, method: str) -> Any:
        """Return the type of a method's requests."""
        return GetMessageClass(self.service.methods_by_name[method].input_type)

    def header(self, method: str) -> Any:
        """Return the type of the header that a method's stream of requests starts with."""
        return GetMessageClass(self.request(method).DESCRIPTOR.fields_by_name["header"].message_type)

    def reply(self, method: str) -> Any:
        """Return the type of a method's replies."""
        return GetMessageClass(self.service.methods_by_name[method].output_type)

    def watch(self, **fields: Any) -> Any:
        """Return the request for the progress of a job."""
        return self.request("Watch")(**fields)

    def list(self) -> Any:
        """Return the request for all stored models."""
        return self.request("ListModels")()

    def name_of(self, model: object, argument: str = "model") -> str:
        """Return the name of a model that is given by its name or its description; TypeError naming the argument."""
        if isinstance(model, self.model):
            return str(model.name)  # type: ignore[attr-defined]
        if not isinstance(model, str):
            raise TypeError(f"{argument} must be a model or its name, got {type(model).__name__}")
        return model

    def get_request(self, name: str) -> Any:
        """Return the request for a stored model."""
        with errors.refusals():
            return self.request("GetModel")(name=self.name_of(name, "name"))

    def delete_request(self, model: str | Model) -> Any:
        """Return the request to delete a stored model."""
        with errors.refusals():
            return self.request("DeleteModel")(name=self.name_of(model))

    def trained(self, response: Any) -> Model:
        """Return the model that a job ended with."""
        return self.told(unpack_result(response, self.reply("GetModel")()))
