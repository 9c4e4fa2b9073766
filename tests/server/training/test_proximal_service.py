"""`ProximalService` past the client's own checks: refusals on the wire, limits, checkpoints, what watchers see."""

from concurrent.futures import Future

import grpc
import numpy as np
import pytest
from google.rpc import error_details_pb2
from grpc_status import rpc_status

pytest.importorskip("torch")

from safetensors.numpy import load_file, save_file

import relaxon
from relaxon.neuromorphic.proximal import (
    IdentityOperator,
    MatchingSettings,
    NetworkSettings,
    ProximalModel,
    train_proximal,
)
from relaxon.neuromorphic.proximal.potentials import build_potential
from relaxon.proto import poisson_pb2, tensor_pb2
from relaxon.proto import proximal_pb2 as pb
from relaxon.proto.proximal_pb2_grpc import ProximalServiceStub
from relaxon.server.app import EmbeddedServer
from relaxon.server.config.settings import ServerSettings
from relaxon.server.gate.access import role_of
from relaxon.server.gate.identity import Role
from relaxon.server.jobs.worker import CHECKPOINT, MODEL
from relaxon.server.solving.observations import Observations
from relaxon.server.training import proximal_limits, proximal_task
from relaxon.wire import tensors

DEADLINE = 30
SHAPE = (4, 3)
B = np.random.default_rng(0).standard_normal(SHAPE)
MODEL_OF_IMAGES = ProximalModel(build_potential(NetworkSettings(SHAPE, hidden=(5,))), noise=0.5)


@pytest.fixture(scope="module")
def stub(tmp_path_factory):
    """The generated stub of a server that has an operator called "known"."""
    folder = tmp_path_factory.mktemp("known")
    MODEL_OF_IMAGES.save(folder)
    settings = ServerSettings(port=0, grace_seconds=0.0, compile="", max_table_bytes=2**20)
    with EmbeddedServer(settings) as server:
        with relaxon.connect(server.target) as client:
            client.models.upload("proximal", folder, name="known")
        with grpc.insecure_channel(server.target) as channel:
            yield ProximalServiceStub(channel)


def sent(message, header, *arrays):
    yield message(header=header)
    for name, array in arrays:
        for part in tensors.parts_of(array):
            yield message(**{name: part})


IDENTITY = pb.ForwardMap(identity=pb.IdentityMap())


def solve(stub, operator=(IDENTITY,), *arrays, b=B, **header):
    given = {"model": "known", "observation": tensors.header_of(b), "data_weight": 0.1, **header}
    first = pb.SolveInverseHeader(operator=operator, **given)
    return list(stub.Solve(sent(pb.SolveInverseRequest, first, *arrays, ("observation", b)), timeout=DEADLINE))


def train(stub, data=B[None], **header):
    given = {
        "network": pb.ProximalNetwork(shape=SHAPE),
        "settings": pb.ProximalSettings(noise=1.0),
        "data": tensors.header_of(data),
    }
    first = pb.TrainProximalHeader(**{**given, **header})
    return stub.Train(sent(pb.TrainProximalRequest, first, ("data", data)), timeout=DEADLINE)


def denoise(stub, y=B, **header):
    first = pb.DenoiseHeader(model="known", **{"y": tensors.header_of(y), **header})
    return list(stub.Denoise(sent(pb.DenoiseRequest, first, ("y", y)), timeout=DEADLINE))


def mask(observed):
    return [pb.ForwardMap(mask=pb.MaskMap(observed=tensors.header_of(observed)))], ("operator", observed)


def field(**grid):
    header = poisson_pb2.GridHeader(cells=tensors.header_of(np.zeros(SHAPE, np.uint8)), **grid)
    return [pb.ForwardMap(poisson=pb.FieldMap(grid=header))]


def damaged(stub):
    """An array of a map whose parts are not those of what was announced."""
    (one,), _ = mask(np.ones(SHAPE, np.uint8))
    first = pb.SolveInverseHeader(model="known", operator=[one], observation=tensors.header_of(B), data_weight=0.1)
    part = tensor_pb2.TensorPart(end=tensor_pb2.TensorEnd(crc32=0))
    requests = [pb.SolveInverseRequest(header=first), pb.SolveInverseRequest(operator=part)]
    return list(stub.Solve(iter(requests), timeout=DEADLINE))


TWOS = np.full(SHAPE, 2, np.uint8)
WIRE = {
    "no map": (lambda s: solve(s, ()), "operator"),
    "a map of no kind": (lambda s: solve(s, [pb.ForwardMap()]), "operator"),
    "the second of no kind": (lambda s: solve(s, [pb.ForwardMap(identity={}), pb.ForwardMap()]), "operator[1]"),
    "a mask of twos": (lambda s: solve(s, *mask(TWOS)), "operator.observed"),
    "a mask of floats": (lambda s: solve(s, *mask(B)), "operator.observed"),
    "a mask of none": (lambda s: solve(s, [pb.ForwardMap(mask=pb.MaskMap())]), "operator.observed"),
    "a map's array that is cut short": (damaged, "operator.observed"),
    "a width that is NaN": (lambda s: solve(s, [pb.ForwardMap(blur=pb.BlurMap(width=np.nan))]), "operator.width"),
    "a blur without a form": (lambda s: solve(s, [pb.ForwardMap(blur=pb.BlurMap())]), "operator.kernel"),
    "a grid's spacing": (lambda s: solve(s, field(spacing=[1.0, -1.0])), "operator.spacing[1]"),
    "cells that no grid has": (lambda s: solve(s, field(), ("operator", TWOS + 7)), "operator.cells"),
    "an observation of integers": (lambda s: solve(s, b=TWOS), "observation"),
    "an observation that comes too early": (lambda s: solve(s, mask(TWOS)[0]), "operator.observed"),
    "an unknown method": (lambda s: solve(s, method="newton"), "method"),
    "an infinite penalty": (lambda s: solve(s, method="admm", penalty=np.inf), "penalty"),
    "no weight": (lambda s: solve(s, observation_noise=1.0), "data_weight"),
    "an interval": (lambda s: solve(s, progress_interval={"seconds": -1}), "progress_interval"),
    "a signal without a shape": (lambda s: solve(s, shape=[0, 3]), "shape"),
    "a network without a shape": (lambda s: train(s, network=pb.ProximalNetwork()), "shape"),
    "no noise": (lambda s: train(s, settings=pb.ProximalSettings()), "noise"),
    "a noise that is NaN": (lambda s: train(s, settings=pb.ProximalSettings(noise=np.nan)), "noise"),
    "four axes": (lambda s: train(s, network=pb.ProximalNetwork(shape=[1, 1, 4, 3]), data=np.ones((1, 4, 3))), "data"),
    "a shape that is not the data's": (lambda s: train(s, shape=[2, 4, 3]), "shape"),
    "NaN in the data": (lambda s: train(s, np.full((1, *SHAPE), np.nan)), "data"),
    "a shape that is not y's": (lambda s: denoise(s, B.ravel(), shape=[-4, -3]), "shape"),
    "a y of integers": (lambda s: denoise(s, TWOS), "y"),
}


@pytest.mark.parametrize("name", WIRE)
def test_a_mistake_on_the_wire_is_refused_by_its_field(stub, name):
    call, expected = WIRE[name]
    with pytest.raises(grpc.RpcError) as caught:
        call(stub)
    status = rpc_status.from_call(caught.value)
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT, status
    request = error_details_pb2.BadRequest()
    assert status.details[0].Unpack(request)
    assert request.field_violations[0].field == expected
    assert status.message.startswith(f"{expected} ")


MANY_REPORTS = {"noise": 1.0, "record_every": 1, "start_steps": 150_000}


@pytest.mark.parametrize(
    ("call", "subject"),
    [
        (lambda s: denoise(s, np.ones((20_000, *SHAPE), np.float32)), "table"),
        (lambda s: train(s, network=pb.ProximalNetwork(shape=SHAPE, hidden=[5000, 5000])), "table"),
        (lambda s: train(s, network=pb.ProximalNetwork(shape=SHAPE, hidden=[20_000])), "hidden"),
        (lambda s: train(s, settings=pb.ProximalSettings(**MANY_REPORTS)), "record_every"),
        (lambda s: solve(s, [pb.ForwardMap(radon=pb.RadonMap(angles=np.zeros(500)))]), "table"),
        (lambda s: solve(s, [pb.ForwardMap(radon=pb.RadonMap(angles=[0.0], detectors=10**6))]), "operator.detectors"),
    ],
)  # fmt: skip
def test_what_is_too_large_names_the_limit(stub, call, subject):
    with pytest.raises(grpc.RpcError) as caught:
        call(stub)
    assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    quota = error_details_pb2.QuotaFailure()
    assert rpc_status.from_call(caught.value).details[0].Unpack(quota)
    assert quota.violations[0].subject == subject


def test_a_shape_beside_a_flat_array_is_that_of_the_signals(stub):
    many = np.random.default_rng(1).standard_normal((3, *SHAPE))
    flat = denoise(stub, many.ravel(), shape=many.shape)
    incoming = tensors.Assembler("output", *tensors.checked_header("output", flat[0].header.output))
    for reply in flat[1:]:
        incoming.take(reply.output)
    assert np.array_equal(incoming.array().reshape(many.shape), MODEL_OF_IMAGES.denoise(many))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_solve_answers_header_arrays_and_no_progress_unasked(stub, dtype):
    header, *parts = solve(stub, b=B.astype(dtype))
    assert header.header.result == poisson_pb2.RESULT_CONVERGED
    assert not header.header.HasField("penalty")
    assert [part.WhichOneof("message") for part in parts] == [
        "x", "x", "residuals", "residuals", "objectives", "objectives"
    ]  # fmt: skip


@pytest.mark.parametrize(
    "network",
    [
        NetworkSettings((7,), hidden=(5,)),
        NetworkSettings((2, 3), hidden=(5, 4, 6)),
        NetworkSettings((9, 8), "convolutional", hidden=(5,)),
        NetworkSettings((3, 9, 8), "convolutional", hidden=(5, 4), kernel=5),
    ],
)
def test_a_network_s_weights_are_counted_without_building_it(network):
    built = sum(parameter.numel() for parameter in build_potential(network).parameters())
    assert proximal_limits.count_weights(network) == built


@pytest.mark.parametrize(("method", "role"), [("Train", Role.TRAIN), ("Denoise", Role.SOLVE), ("Prior", Role.SOLVE),
                                              ("Solve", Role.SOLVE), ("Watch", Role.READ)])  # fmt: skip
def test_who_may_solve_may_not_train(method, role):
    assert role_of(f"/relaxon.v1.ProximalService/{method}") is role


REQUEST = {
    "network": {"shape": list(SHAPE), "hidden": [6]},
    "settings": {"noise": 1.0, "start_steps": 20, "gammas": [0.5], "stage_steps": 15, "batch": 4, "record_every": 5},
    "checkpoint_seconds": 0.0,
}


class Killed(Exception):
    pass


def test_a_job_that_is_cut_off_anywhere_goes_on_to_the_same_bits(tmp_path):
    data = np.random.default_rng(3).standard_normal((10, *SHAPE))
    save_file({"data": data}, tmp_path / proximal_task.DATA)
    network, settings = NetworkSettings(SHAPE, hidden=(6,)), dict(REQUEST["settings"])
    unbroken = train_proximal(data, network, MatchingSettings(**settings))
    unbroken.save(tmp_path / "unbroken")
    told, counts = [], []

    def run(lives):
        counts.append(0)

        def tell(progress):
            counts[-1] += 1
            if counts[-1] > lives:
                raise Killed  # before this step's checkpoint, as a kill may be
            if progress is not None:
                told.append(progress)
            return False

        proximal_task.run(tmp_path, REQUEST, tell)

    for lives in (3, 12):
        with pytest.raises(Killed):
            run(lives)
    run(1000)
    # Of the 35 steps the second process begins with the fourth, the third with the sixteenth.
    assert counts == [4, 13, 20]
    assert (tmp_path / CHECKPOINT).exists()
    assert [one["report"] for one in told] == list(range(1, 8))
    assert [one["loss"] for one in told] == [record.loss for record in unbroken.training.records]
    ours, theirs = load_file(tmp_path / MODEL / "model.safetensors"), load_file(tmp_path / "unbroken/model.safetensors")
    assert ours.keys() == theirs.keys()
    assert all(np.array_equal(ours[name], theirs[name]) for name in theirs)


def test_a_watcher_is_shown_an_inverse_problem_to_its_end():
    trace = Observations().solve("proximal-pgd", SHAPE, 12)
    trace.begin()
    found = MODEL_OF_IMAGES.solve(B, IdentityOperator(SHAPE), data_weight=0.5, callback=trace.record)
    future = Future()
    future.set_result(found)
    trace.end(future)
    assert (trace.outcome, trace.iterations, trace.tolerance) == ("converged", found.iterations, found.tolerance)
    assert trace.residuals.points()[-1] == (found.iterations, found.residual)
    assert trace.setup_seconds is None
