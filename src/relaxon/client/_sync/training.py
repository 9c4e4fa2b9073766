# Generated from relaxon/client/_async/training.py by tools/generate_client.py: edit that file and run the tool.
"""What the blocking clients of all training services share: train, predict, find jobs, describe and delete models."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any, ClassVar, Generic, TypeVar

import numpy as np
from google.longrunning import operations_pb2_grpc
from numpy.typing import ArrayLike, NDArray

from relaxon.client._sync.caller import RetryingCaller
from relaxon.client._sync.jobs import Job
from relaxon.client.shared.blocking_runtime import Channel
from relaxon.wire.conversions import labels
from relaxon.wire.conversions.engine import EngineMessages
from relaxon.wire.conversions.fields import SettingsMessage
from relaxon.wire.conversions.jobs import get_request, metadata_of
from relaxon.wire.conversions.tables import ARGUMENTS, Prediction, Task, output_requests, supervised_requests
from relaxon.wire.ownership import NotPickled

Progress = TypeVar("Progress")
Model = TypeVar("Model")
Settings = TypeVar("Settings", bound=SettingsMessage)
Array = NDArray[np.float64]


class TrainingClient(NotPickled, Generic[Progress, Model]):
    """Base of the clients of the services that train; each trains models of one kind."""

    _engine: ClassVar[EngineMessages[Any, Any]]
    _new_stub: ClassVar[type[Any]]

    def __init__(self, channel: Channel, caller: RetryingCaller) -> None:
        self._stub: Any = self._new_stub(channel)
        self._operations = operations_pb2_grpc.OperationsStub(channel)
        self._caller = caller

    def job(self, name: str) -> Job[Progress, Model]:
        """Return the training job of that name; NotFound where the server does not know it (any more)."""
        request = get_request(name)
        return self._job(self._caller.make(self._operations.GetOperation, request, idempotent=True, patient=True))

    def model(self, name: str) -> Model:
        """Describe a stored model; NotFound where there is none of that name."""
        request = self._engine.get_request(name)
        model: Model = self._engine.told(self._caller.make(self._stub.GetModel, request, idempotent=True))
        return model

    def models(self) -> tuple[Model, ...]:
        """Describe all stored models in the order of their names, without their long fields."""
        reply = self._caller.make(self._stub.ListModels, self._engine.list(), idempotent=True)
        return tuple(map(self._engine.told, reply.models))

    def delete_model(self, model: str | Model) -> None:
        """Delete a stored model; NotFound where there is none of that name."""
        self._caller.delete(self._stub.DeleteModel, self._engine.delete_request(model))

    def _train(
        self,
        make_requests: Callable[..., Any],
        *data: Any,
        timeout: float | None,
        arguments: Mapping[str, str] | None = None,
    ) -> Job[Progress, Model]:
        """Send the requests that are made of the data and return the job.

        `arguments` maps fields of the messages to the names of the caller's arguments.
        """
        seconds = self._caller.transfer_seconds(timeout)
        requests = make_requests(*data)
        operation = self._caller.make(
            self._stub.Train, requests, idempotent=True, seconds=seconds, arguments=arguments, patient=True
        )
        return self._job(operation)

    def _evaluate(
        self,
        method: Callable[..., Any],
        make_requests: Callable[..., Any],
        *data: Any,
        timeout: float | None,
        arguments: Mapping[str, str],
    ) -> tuple[Any, Any]:
        """Send rows to a stored model and return the answer's header and the numbers of the rows."""
        seconds = self._caller.transfer_seconds(timeout)
        requests, rows = make_requests(*data)
        return self._caller.gather(method, requests, partial(Prediction, rows), seconds=seconds, arguments=arguments)

    def _job(self, operation: Any) -> Job[Progress, Model]:
        return Job(
            operation.name,
            metadata_of(operation).model,
            self._operations,
            self._watch_progress,
            self._engine.trained,
            self._caller,
        )

    def _watch_progress(self, name: str, skip: int) -> Iterator[Progress]:
        # No deadline: training takes as long as it takes.
        def request(came: int) -> Any:
            return self._engine.watch(operation=name, skip=skip + came)

        for message in self._caller.follow(self._stub.Watch, request):
            yield self._engine.step(message)


class PredictingClient(TrainingClient[Progress, Model]):
    """Base of the clients of models that predict for rows as the estimators of scikit-learn do."""

    def predict(self, model: str | Model, X: ArrayLike, *, timeout: float | None = None) -> NDArray[Any]:
        """Predict numbers `(n,)` or `(n, K)`, or the labels `(n,)` of a classification."""
        return self._predict("predict", model, X, timeout)

    def predict_proba(self, model: str | Model, X: ArrayLike, *, timeout: float | None = None) -> Array:
        """Return probabilities, `(n, classes)`, the columns in the order of the model's `classes`."""
        return self._predict("predict_proba", model, X, timeout)

    def decision_function(self, model: str | Model, X: ArrayLike, *, timeout: float | None = None) -> Array:
        """Return outputs or logits: `(n,)`, of the second class, where there are two, else `(n, classes)`."""
        return self._predict("decision_function", model, X, timeout)

    @staticmethod
    def _check_prediction(header: Any, /) -> None:
        """Refuse or warn of a prediction by the header of its answer."""

    def _predict(
        self,
        output: str,
        model: str | Model,
        X: ArrayLike,
        timeout: float | None,
        *further: Any,
        make_requests: Callable[..., Any] = output_requests,
    ) -> NDArray[Any]:
        """Return what a method of the estimator gives, as labels where it predicts classes.

        `make_requests` gets the `further` arguments too.
        """
        header, numbers = self._evaluate(
            self._stub.Predict,
            make_requests,
            *(self._engine, output, model, X, *further),
            timeout=timeout,
            arguments=ARGUMENTS,
        )
        self._check_prediction(header)
        classes = labels.decode_classes(header.classes)
        found: NDArray[Any] = numbers
        return classes[found.astype(np.int64)] if output == "predict" and classes is not None else found


class SupervisedClient(PredictingClient[Progress, Model], Generic[Progress, Model, Settings]):
    """Base of the clients of services that train regressions and classifications."""

    _settings: ClassVar[type[Any]]
    _arguments: ClassVar[Mapping[str, str]] = ARGUMENTS

    def train(
        self,
        X: ArrayLike,
        y: ArrayLike,
        *,
        task: Task = "regression",
        settings: Settings | None = None,
        sample_weight: ArrayLike | None = None,
        model: str = "",
        request_id: str = "",
        timeout: float | None = None,
    ) -> Job[Progress, Model]:
        """Send the data and start a training job on them; return once the server has received them.

        Parameters
        ----------
        X : numbers, (n, d); NaN only for an engine with the setting `missing`, as "mean" or "indicate".
        y : numbers, (n,) or (n, K); for a classification labels, (n,): strings, whole numbers or booleans.
        task : "regression" or "classification".
        sample_weight : weights of the rows, (n,), at least 0.
        model : the name under which the model is stored; the server makes one up where it is empty.
        request_id : your own name for this call, with which your program can repeat it without starting a second job;
            where it is empty, one is made up, with which the client repeats a call that the end of a server cut off.
        timeout : seconds for sending; None for the client's.

        Raises
        ------
        InvalidArgument : for a bad argument, which it names. AlreadyExists : the name is taken, or the request id
        belongs to another call. ResourceExhausted : a limit of the server is reached, or its queue is full.
        FailedPrecondition : the server lacks packages. Unavailable : the server was away for the client's timeout.
        """
        data = self._engine, self._settings, X, y, task, settings, sample_weight, model, request_id
        return self._train(supervised_requests, *data, timeout=timeout, arguments=self._arguments)
