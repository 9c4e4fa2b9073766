"""What a refused call says of itself, read from the raw status."""

import grpc
import pytest
from google.rpc import error_details_pb2
from grpc_status import rpc_status


def failed_with(call, detail):
    """Return the status code of a call that must fail; `detail` is filled from the status' detail of its type."""
    with pytest.raises(grpc.RpcError) as caught:
        call()
    status = rpc_status.from_call(caught.value)
    assert status is not None
    assert status.code == caught.value.code().value[0]
    assert status.message == caught.value.details()
    assert any(packed.Unpack(detail) for packed in status.details)
    return caught.value.code()


def refused_field(call):
    """Return the field that an INVALID_ARGUMENT names, and what it says of it."""
    request = error_details_pb2.BadRequest()
    assert failed_with(call, request) is grpc.StatusCode.INVALID_ARGUMENT
    (violation,) = request.field_violations
    return violation.field, violation.description
