"""Requests to `BoostingService` over the raw stubs, past the client's own checks."""

from __future__ import annotations

from dataclasses import dataclass

import grpc
import numpy as np
import pytest
from google.longrunning import operations_pb2
from google.longrunning.operations_pb2_grpc import OperationsStub
from google.rpc import error_details_pb2
from grpc_status import rpc_status

from relaxon.proto import boosting_pb2 as pb
from relaxon.proto.boosting_pb2_grpc import BoostingServiceStub
from relaxon.wire import tensors

DEADLINE = 120
X = np.random.default_rng(0).standard_normal((60, 3))
Y = X[:, 0] - 2.0 * X[:, 1] ** 2
LONG = {"n_units": 10_000, "learning_rate": 1e-3, "random_state": 0}
"""A training that does not end within a test unless it is told to."""
MANY = np.random.default_rng(1).standard_normal((3000, 10))
NOISE = np.random.default_rng(2).standard_normal(3000)


@dataclass(frozen=True)
class Stubs:
    """The generated stubs of one channel, which check nothing."""

    boosting: BoostingServiceStub
    operations: OperationsStub


def stubs_of(channel):
    return Stubs(BoostingServiceStub(channel), OperationsStub(channel))


def header(x=X, y=Y, weights=None, settings=None, **changes):
    made = pb.TrainBoostingHeader(
        features=tensors.header_of(x),
        target=tensors.header_of(y),
        settings=pb.BoostingSettings(**{"n_units": 3, "random_state": 0, **(settings or {})}),
        **changes,
    )
    if weights is not None:
        made.weights.CopyFrom(tensors.header_of(weights))
    return made


def requests(first, x=X, y=Y, weights=None):
    yield pb.TrainBoostingRequest(header=first)
    for part in tensors.parts_of(x):
        yield pb.TrainBoostingRequest(features=part)
    for part in tensors.parts_of(y):
        yield pb.TrainBoostingRequest(target=part)
    for part in () if weights is None else tensors.parts_of(weights):
        yield pb.TrainBoostingRequest(weights=part)


def train(stubs, x=X, y=Y, weights=None, **changes):
    return stubs.boosting.Train(requests(header(x, y, weights, **changes), x, y, weights), timeout=DEADLINE)


def train_long(stubs, **changes):
    return train(stubs, MANY, NOISE, settings=LONG, **changes)


def wait(stubs, operation, seconds=DEADLINE):
    request = operations_pb2.WaitOperationRequest(name=operation.name)
    request.timeout.FromMilliseconds(int(1000 * seconds))
    return stubs.operations.WaitOperation(request, timeout=DEADLINE)


def cancel(stubs, operation):
    stubs.operations.CancelOperation(operations_pb2.CancelOperationRequest(name=operation.name), timeout=DEADLINE)


def trained(operation):
    """The model of an operation that is done without an error."""
    assert operation.done
    assert not operation.HasField("error"), operation.error
    model = pb.BoostingModel()
    assert operation.response.Unpack(model)
    return model


def job(operation):
    metadata = pb.BoostingTraining()
    assert operation.metadata.Unpack(metadata)
    return metadata.job


def predict(stubs, model, x=X, **options):
    def sent():
        yield pb.PredictBoostingRequest(
            header=pb.PredictBoostingHeader(model=model, features=tensors.header_of(x), **options)
        )
        for part in tensors.parts_of(x):
            yield pb.PredictBoostingRequest(features=part)

    first, *rest = stubs.boosting.Predict(sent(), timeout=DEADLINE)
    incoming = tensors.Assembler("output", *tensors.checked_header("output", first.header.output))
    for reply in rest:
        incoming.take(reply.output)
    return incoming.array()


def names(stubs):
    return [model.name for model in stubs.boosting.ListModels(pb.ListBoostingModelsRequest(), timeout=DEADLINE).models]


def operations(stubs, **request):
    return stubs.operations.ListOperations(operations_pb2.ListOperationsRequest(**request), timeout=DEADLINE)


def refused(call, code, detail=None):
    """The failed call's message, and `detail` filled from its status."""
    with pytest.raises(grpc.RpcError) as caught:
        call()
    assert caught.value.code() is code, caught.value.details()
    if detail is not None:
        assert any(packed.Unpack(detail) for packed in rpc_status.from_call(caught.value).details)
    return caught.value.details()


def refused_field(call):
    request = error_details_pb2.BadRequest()
    message = refused(call, grpc.StatusCode.INVALID_ARGUMENT, request)
    assert message.startswith(request.field_violations[0].field)
    return request.field_violations[0].field
