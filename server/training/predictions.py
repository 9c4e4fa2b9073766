"""The calls by which models of tables answer for rows, and what the messages of such models have in common."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from relaxon.core.unseen_categories import collect_unseen
from relaxon.server.gate import errors
from relaxon.server.training.tables import announce_features, check_finite
from relaxon.wire.conversions import labels
from relaxon.wire.conversions.tables import OUTPUTS, array_messages

if TYPE_CHECKING:
    from relaxon.server.training.service import Context, TrainingService

METHODS = {0: "predict", **{number: method for method, number in OUTPUTS.items()}}
"""The estimators' methods by the numbers of the services' outputs; 0 stands for an output that is not given."""


def collect_supervised_fields(model: Any, outputs: int, whole: bool) -> dict[str, Any]:
    """Return the fields that the messages of regressions and classifications have in common.

    `outputs` is the number of a regression's outputs; `whole` fills in the classes, which can be long.
    """
    classes: NDArray[Any] | None = getattr(model, "classes_", None)
    return {
        "classifier": classes is not None,
        "n_features": model.n_features_in_,
        "outputs": outputs if classes is None else 0,
        "class_count": 0 if classes is None else len(classes),
        "classes": labels.classes_message(classes) if whole and classes is not None else None,
    }


async def answer_rows(
    service: TrainingService, request: Any, context: Context, adapt: Callable[[Any, Any], Any] = lambda model, _: model
) -> None:
    """Answer a `Predict` call with a model that is a scikit-learn estimator.

    `adapt` returns the model that predicts, given the stored one and the call's header; it runs in a thread.
    """
    upload = service.upload(context)
    header = await upload.header()
    with service.admitted():
        model = await service.run_beside(lambda: adapt(service.load(header.model), header))
        method = _method_of(header, model)
        announced = announce_features(header.features, model.n_features_in_, service.settings)
        features = await upload.array("features", announced)
        await upload.end()
        output, messages = await service.run_beside(lambda: _predict_and_collect(model, method, features))
        classes = getattr(model, "classes_", None)
        fields: dict[str, Any] = {"warning": errors.shorten("; ".join(messages))} if messages else {}
        if classes is not None:
            fields["classes"] = labels.classes_message(classes)
        await write_output(service, context, output, **fields)


async def write_output(
    service: TrainingService, context: Context, output: NDArray[Any], method: str = "Predict", **header: Any
) -> None:
    """Write the replies that carry a header with an `output` and the array itself."""
    for reply in array_messages(service.engine.wire.reply(method), {"output": output}, **header):
        await context.write(reply)


def _predict_and_collect(model: Any, method: str, features: NDArray[Any]) -> tuple[NDArray[np.float64], list[str]]:
    """Return the prediction for rows and what its caller is to be warned of; this process gives no warning itself."""
    with collect_unseen() as messages:
        return predict_rows(model, method, features), messages


def predict_rows(model: Any, method: str, features: NDArray[Any]) -> NDArray[np.float64]:
    """Return what an estimator's method gives for rows; for the labels of a classification, the classes' places."""
    check_finite("features", features, getattr(model, "missing", "refuse") != "refuse")
    found = getattr(model, method)(features)
    if method == "predict" and hasattr(model, "classes_"):
        found = np.searchsorted(model.classes_, found)
    return np.ascontiguousarray(found, np.float64)


def _method_of(header: Any, model: Any) -> str:
    """Return the estimator's method for the output asked for; INVALID_ARGUMENT where it has none."""
    method = METHODS.get(header.output)
    if method is None:
        raise errors.invalid("output", f"output must be a known value, got {header.output}")
    if method != "predict" and not hasattr(model, "classes_"):
        raise errors.invalid("output", "output must be the prediction: the model is a regression")
    if not hasattr(model, method):
        raise errors.invalid(
            "output", f"output must not be probabilities: the model's loss is {model.loss!r}, not 'logistic'"
        )
    return method
