"""Request ids: a `Train` that is repeated begins no second job."""

import threading

import grpc
import numpy as np
import pytest
from boosting_calls import (
    DEADLINE,
    X,
    Y,
    cancel,
    header,
    names,
    operations,
    refused,
    refused_field,
    requests,
    stubs_of,
    train,
    train_long,
    trained,
    wait,
)
from google.rpc import error_details_pb2

from relaxon.proto import boosting_pb2 as pb
from relaxon.server.app import EmbeddedServer
from relaxon.server.config.settings import ServerSettings

Code = grpc.StatusCode


def test_the_same_call_is_answered_with_the_same_operation(shared):
    first = train(shared, request_id="same")
    before = len(operations(shared).operations)
    assert train(shared, request_id="same").name == first.name  # while it waits or runs
    ended = wait(shared, first)
    again = train(shared, request_id="same")
    assert again == ended  # and when it has ended, with its model
    assert train(shared, request_id="other").name != first.name
    assert train(shared).name != train(shared).name
    assert len(operations(shared).operations) == before + 3


def test_a_seed_that_the_server_draws_is_no_difference(shared):
    settings = {"n_units": 2}
    first = header(request_id="drawn")
    first.settings.CopyFrom(pb.BoostingSettings(**settings))
    one, other = (shared.boosting.Train(requests(first), timeout=DEADLINE) for _ in range(2))
    assert one.name == other.name


def test_another_call_under_the_same_id_is_refused(shared):
    first = train(shared, request_id="mine", settings={"n_units": 2})
    for changes in ({"settings": {"n_units": 3}}, {"model": "named"}, {"x": X[:, :2]}):
        resource = error_details_pb2.ResourceInfo()
        call = {"settings": {"n_units": 2}, **changes}
        refused(lambda call=call: train(shared, request_id="mine", **call), Code.ALREADY_EXISTS, resource)
        assert (resource.resource_type, resource.resource_name) == ("google.longrunning.Operation", first.name)
    # Another header is refused before anything is uploaded; other data when they are here.
    bare = pb.TrainBoostingRequest(header=header(request_id="mine", settings={"n_units": 3}))
    refused(lambda: shared.boosting.Train(iter([bare]), timeout=DEADLINE), Code.ALREADY_EXISTS)
    message = refused(
        lambda: train(shared, y=Y + 1e-9, request_id="mine", settings={"n_units": 2}), Code.ALREADY_EXISTS
    )
    assert "whose data was another" in message
    assert "named" not in names(shared)


def test_what_can_be_no_id_is_refused_by_name(shared):
    for text in ("a b", "x" * 65, "é", "a/b", "a\n"):
        assert refused_field(lambda text=text: train(shared, request_id=text)) == "request_id"


def test_a_repeat_needs_no_place_in_a_full_queue_and_no_second_name(training):
    stubs = training(max_jobs=1, max_models=1)
    first = train(stubs, request_id="only", model="only", settings={"n_units": 10_000, "learning_rate": 1e-3})
    assert (
        train(stubs, request_id="only", model="only", settings={"n_units": 10_000, "learning_rate": 1e-3}).name
        == first.name
    )
    refused(lambda: train(stubs), Code.RESOURCE_EXHAUSTED)
    cancel(stubs, first)
    assert trained(wait(stubs, first)).name == "only"


def test_calls_at_the_same_time_begin_one_job(training):
    stubs = training()
    found = []
    gate = threading.Event()

    def call():
        def slowly():
            for number, request in enumerate(requests(header(request_id="once", model="once"))):
                if number == 2:
                    gate.wait(DEADLINE)
                yield request

        found.append(stubs.boosting.Train(slowly(), timeout=DEADLINE))

    threads = [threading.Thread(target=call) for _ in range(4)]
    for thread in threads:
        thread.start()
    gate.set()
    for thread in threads:
        thread.join(DEADLINE)
    assert len(found) == 4
    assert len({operation.name for operation in found}) == 1
    assert len(operations(stubs).operations) == 1


def test_an_id_whose_upload_broke_off_is_free(shared):
    first = header(request_id="broke", model="broke")
    assert refused_field(lambda: shared.boosting.Train(iter([*requests(first)][:2]), timeout=DEADLINE)) == "features"
    bad = np.where(Y > 0, np.nan, Y)
    assert refused_field(lambda: shared.boosting.Train(requests(first, y=bad), timeout=DEADLINE)) == "target"
    assert trained(wait(shared, train(shared, request_id="broke", model="broke"))).name == "broke"


def test_an_id_outlives_its_server(tmp_path, training):
    settings = ServerSettings(port=0, model_folder=str(tmp_path), grace_seconds=60)
    with EmbeddedServer(settings) as server, grpc.insecure_channel(server.target) as channel:
        ended = wait(stubs_of(channel), train(stubs_of(channel), request_id="done"))
        unfinished = train_long(stubs_of(channel), request_id="long")
    stubs = training(model_folder=str(tmp_path))
    assert train(stubs, request_id="done") == ended
    assert train_long(stubs, request_id="long").name == unfinished.name
    refused(lambda: train(stubs, request_id="long"), Code.ALREADY_EXISTS)


@pytest.mark.parametrize("kind", ["boosting", "equilibrium"])
def test_every_header_that_trains_has_the_id(kind):
    from relaxon.proto import equilibrium_pb2

    message = {"boosting": pb.TrainBoostingHeader, "equilibrium": equilibrium_pb2.TrainEquilibriumHeader}[kind]
    assert message(request_id="x").request_id == "x"
