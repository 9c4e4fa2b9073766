# Generated from relaxon/client/_async/supervised.py by tools/generate_client.py: edit that file and run the tool.
"""The calls that the blocking clients of models of tables with targets share: training and predictions."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, ClassVar, Generic, TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from relaxon.client._sync.jobs import Job
from relaxon.client._sync.training import Model, Progress, TrainingClient
from relaxon.wire.conversions import labels
from relaxon.wire.conversions.fields import SettingsMessage
from relaxon.wire.conversions.supervised import ARGUMENTS, Task, output_requests, supervised_requests

Array = NDArray[np.float64]
Settings = TypeVar("Settings", bound=SettingsMessage)


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
