"""Models as files: what is downloaded is what is stored, and only a whole, small enough model can be uploaded."""

import json
import struct
import zlib

import grpc
import numpy as np
import pytest
from google.rpc import error_details_pb2
from grpc_status import rpc_status
from safetensors.numpy import load_file, save_file

import relaxon
from relaxon import client as errors
from relaxon.neuromorphic.boosting import GradientBoostedNetworkClassifier, GradientBoostedNetworkRegressor
from relaxon.neuromorphic.convex import ConvexNetworkClassifier
from relaxon.proto import models_pb2 as pb
from relaxon.proto import models_pb2_grpc
from relaxon.server.app import EmbeddedServer
from relaxon.server.config.settings import ServerSettings

RNG = np.random.default_rng(0)
X = RNG.standard_normal((30, 3))
Y = (X[:, 0] > 0).astype(int)


@pytest.fixture(scope="module")
def stored(tmp_path_factory):
    """A saved model of each kind."""
    from relaxon.neuromorphic.equilibrium import EquilibriumClassifier
    from relaxon.neuromorphic.equilibrium.classifier.storage import save_classifier

    folder = tmp_path_factory.mktemp("stored")
    GradientBoostedNetworkClassifier(3, random_state=0).fit(X, Y).save(folder / "boosting")
    GradientBoostedNetworkRegressor(3, random_state=0).fit(X, X[:, 1]).save(folder / "regressor")
    ConvexNetworkClassifier(4, refinements=0, max_iter=20, random_state=0).fit(X, Y).save(folder / "convex")
    save_classifier(EquilibriumClassifier(hidden_sizes=(4,), epochs=1).fit(X, Y), folder / "equilibrium")
    return folder


@pytest.fixture(scope="module")
def coded(tmp_path_factory):
    """The files of a model whose first column is of two categories."""
    folder = tmp_path_factory.mktemp("coded")
    model = GradientBoostedNetworkRegressor(3, categorical_features=[0], random_state=0)
    model.fit(np.column_stack([Y, X[:, 1:]]), X[:, 0]).save(folder)
    return files(folder)


@pytest.fixture(scope="module")
def embedded():
    limits = ServerSettings(port=0, grace_seconds=0.0, max_units=50, max_model_bytes=2**22, idle_seconds=5)
    with EmbeddedServer(limits) as server:
        yield server


@pytest.fixture
def client(embedded):
    with relaxon.connect(embedded.target, timeout=60) as connected:
        yield connected
        for model in connected.models.list():
            connected.models.delete(model.kind, model.name)


@pytest.fixture
def stub(embedded):
    with grpc.insecure_channel(embedded.target) as channel:
        yield models_pb2_grpc.ModelServiceStub(channel)


def files(folder):
    return {
        path.name: path.read_bytes() for path in sorted(folder.iterdir()) if path.suffix in (".json", ".safetensors")
    }


def requests(kind, contents, name="", chunk=2**20):
    announced = [pb.ModelFile(name=one, size=len(data), crc32=zlib.crc32(data)) for one, data in contents.items()]
    yield pb.UploadModelRequest(header=pb.UploadModelHeader(kind=kind, name=name, files=announced))
    for data in contents.values():
        for start in range(0, len(data), chunk):
            yield pb.UploadModelRequest(chunk=data[start : start + chunk])


def refused(stub, kind, contents, code=grpc.StatusCode.INVALID_ARGUMENT):
    """The field that an upload is refused for."""
    with pytest.raises(grpc.RpcError) as caught:
        stub.Upload(requests(kind, contents), timeout=60)
    assert caught.value.code() is code, caught.value.details()
    status = rpc_status.from_call(caught.value)
    for detail in status.details:
        for form, read in (
            (error_details_pb2.BadRequest, lambda one: one.field_violations[0].field),
            (error_details_pb2.QuotaFailure, lambda one: one.violations[0].subject),
        ):
            message = form()
            if detail.Unpack(message):
                return read(message)
    raise AssertionError(status)


@pytest.mark.parametrize(
    ("kind", "folder"), [("boosting", "boosting"), ("boosting", "regressor"), ("convex",) * 2, ("equilibrium",) * 2]
)
def test_a_model_goes_up_and_comes_down_bit_for_bit_and_predicts(client, stored, tmp_path, kind, folder):
    model = client.models.upload(kind, stored / folder, name="mine")
    assert (model.kind, model.name) == (kind, "mine")
    assert model == client.models.get(kind, "mine")
    assert [one.name for one in client.models.list(kind)] == ["mine"]
    written = client.models.download(kind, "mine", tmp_path / "new" / "folder")
    assert files(written[0].parent) == files(stored / folder)
    assert model.size == sum(map(len, files(stored / folder).values()))
    assert len(getattr(client, kind).predict("mine", X)) == len(X)
    client.models.delete(kind, "mine")
    with pytest.raises(errors.NotFound):
        client.models.get(kind, "mine")


def test_what_a_server_trained_is_loaded_in_process_and_predicts_the_same(client, tmp_path):
    from relaxon.client import BoostingSettings
    from relaxon.neuromorphic.boosting import load

    job = client.boosting.train(X, X[:, 0], settings=BoostingSettings(n_units=3, random_state=1), model="trained")
    there = client.boosting.predict(job.result(60), X)
    client.models.download("boosting", "trained", tmp_path)
    np.testing.assert_array_equal(load(tmp_path).predict(X), there)


def test_boosted_networks_are_exported_to_onnx_and_others_are_not(client, stored, tmp_path):
    onnx = pytest.importorskip("onnx")
    client.models.upload("boosting", stored / "boosting", name="b")
    (path,) = client.models.download("boosting", "b", tmp_path, format="onnx")
    onnx.checker.check_model(onnx.load_from_string(path.read_bytes()))
    client.models.upload("equilibrium", stored / "equilibrium", name="e")
    with pytest.raises(errors.FailedPrecondition, match="ONNX"):
        client.models.download("equilibrium", "e", tmp_path, format="onnx")


def test_a_name_that_is_taken_or_no_name_is_refused(client, stored):
    client.models.upload("boosting", stored / "boosting", name="taken")
    with pytest.raises(errors.AlreadyExists):
        client.models.upload("boosting", stored / "boosting", name="taken")
    for name in ("../x", "a/b", ".hidden", "x" * 65, "a\0b"):
        with pytest.raises(errors.InvalidArgument, match="^name"):
            client.models.upload("boosting", stored / "boosting", name=name)
    assert len(client.models.list()) == 1


def test_files_are_named_as_the_kind_names_them_and_no_other_way(stub, stored):
    sound = files(stored / "boosting")
    for contents in (
        {**sound, "../../evil": b"x"},
        {"model.json": sound["model.json"]},
        {**sound, "/etc/passwd": b"x"},
        {},
    ):
        assert refused(stub, "boosting", contents) == "files"
    assert refused(stub, "pickle", sound) == "kind"
    assert refused(stub, "equilibrium", sound) == "files"


def test_a_damaged_upload_is_refused_and_leaves_nothing(stub, client, stored, embedded):
    contents = files(stored / "boosting")

    def wrong_checksum():
        for request in requests("boosting", contents):
            if request.HasField("header"):
                request.header.files[1].crc32 ^= 1
            yield request

    def cut_short():
        yield from list(requests("boosting", contents, chunk=64))[:-1]

    def too_long():
        yield from requests("boosting", contents)
        yield pb.UploadModelRequest(chunk=b"more")

    for made in (wrong_checksum(), cut_short(), too_long(), iter(())):
        with pytest.raises(grpc.RpcError) as caught:
            stub.Upload(made, timeout=60)
        assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert client.models.list() == ()


def test_announced_sizes_are_checked_before_a_byte_is_taken(stub):
    huge = [pb.ModelFile(name=name, size=2**40, crc32=0) for name in ("model.json", "network.safetensors")]
    header = pb.UploadModelHeader(kind="boosting", files=huge)
    with pytest.raises(grpc.RpcError) as caught:
        stub.Upload(iter([pb.UploadModelRequest(header=header)]), timeout=60)
    assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED


def changed_json(change):
    def apply(contents):
        content = json.loads(contents["model.json"])
        change(content)
        return {**contents, "model.json": json.dumps(content).encode()}

    return apply


def changed_arrays(change):
    def apply(contents, folder):
        path = folder / "network.safetensors"
        path.write_bytes(contents["network.safetensors"])
        arrays = dict(load_file(path))
        change(arrays)
        save_file(arrays, path)
        return {**contents, "network.safetensors": path.read_bytes()}

    return apply


@pytest.mark.parametrize(
    ("change", "field"),
    [
        (lambda c: c.update(kind="pickle"), "files"),
        (lambda c: c.update(n_features=4), "files"),
        (lambda c: c.update(n_features=True), "n_features"),
        (lambda c: c.update(hidden_layers=0), "hidden_layers"),
        (lambda c: c.update(hidden_layers=2), "network.safetensors"),
        (lambda c: c["classes"].update(dtype="S1000000000"), "classes"),
        (lambda c: c["classes"].update(dtype="O"), "classes"),
        (lambda c: c["classes"].update(values=[[]]), "classes"),
        (lambda c: c["classes"].update(values=[0, 1, 2]), "files"),
        (lambda c: c.update(outcome="none"), "files"),
        (lambda c: c["parameters"].update(no_such=1), "files"),
        (lambda c: c.update(feature_names=["a"]), "feature_names"),
        (lambda c: c.clear(), "n_features"),
    ],
)
def test_a_card_that_does_not_fit_is_refused(stub, stored, change, field):
    assert refused(stub, "boosting", changed_json(change)(files(stored / "boosting"))) == field


@pytest.mark.parametrize(
    "change",
    [
        lambda c: c.pop("categories"),
        lambda c: c.update(categories=[]),
        lambda c: c["categories"].update(places=[3]),
        lambda c: c["categories"].update(places=[0, 0]),
        lambda c: c["categories"].update(places=["0"] * 10**5),
        lambda c: c["categories"].update(keys=[[0]]),
        lambda c: c["categories"].update(keys=[[0, []]]),
        lambda c: c["categories"].update(keys=[[0, {}]]),
        lambda c: c["categories"].update(keys=[[0, "1"]]),
        lambda c: c["categories"].update(keys=5),
    ],
)
def test_a_card_whose_categories_do_not_fit_is_refused(stub, coded, change):
    assert refused(stub, "boosting", changed_json(change)(coded)) == "files"


def test_means_of_categories_that_do_not_fit_are_refused(stub, coded, tmp_path):
    for change, field in (
        (lambda a: a.update(category_means_1=np.zeros((4, 1))), "files"),
        (lambda a: a.update(category_means_2=a.pop("category_means_0")), "network.safetensors"),
        (lambda a: a.update(category_means_0=np.zeros(4)), "network.safetensors"),
        (lambda a: a.update(category_means_0=np.full((4, 1), np.nan)), "files"),
    ):
        assert refused(stub, "boosting", changed_arrays(change)(coded, tmp_path)) == field


@pytest.mark.parametrize(
    ("change", "field"),
    [
        (lambda a: a.update(extra=np.zeros(1)), "network.safetensors"),
        (lambda a: a.pop("gain"), "network.safetensors"),
        (lambda a: a.update(shift=a["shift"].astype(np.float32)), "network.safetensors"),
        (lambda a: a.update(sizes=a["sizes"].astype(np.float64)), "network.safetensors"),
        (lambda a: a.update(sizes=np.array([5, -2, 0])), "network.safetensors"),
        (lambda a: a.update(initial=np.zeros((1, 5))), "network.safetensors"),
        (lambda a: a.update(initial=np.zeros(7)), "files"),
        (lambda a: a.update(output=np.full_like(a["output"], np.nan)), "files"),
        (lambda a: a.update(output=np.zeros((1, 1))), "files"),
    ],
)
def test_arrays_that_do_not_fit_are_refused(stub, stored, tmp_path, change, field):
    assert refused(stub, "boosting", changed_arrays(change)(files(stored / "boosting"), tmp_path)) == field


def header_of(content):
    (length,) = struct.unpack("<Q", content[:8])
    return json.loads(content[8 : 8 + length]), content[8 + length :]


def packed(header, data):
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data


@pytest.mark.parametrize(
    "spoil",
    [
        lambda header, data: b"",
        lambda header, data: b"\xff" * 8,
        lambda header, data: struct.pack("<Q", 2**62) + b"{}",
        lambda header, data: packed(header, data)[:-1],
        lambda header, data: packed(header, data + b"x"),
        lambda header, data: packed(b"[" * 100_000, data),
        lambda header, data: packed(b'{"a":' * 50 + b"1" + b"}" * 50, data),
        lambda header, data: packed(b"\xff\xfe{}", data),
        lambda header, data: packed(b"[]", data),
        lambda header, data: packed({**header, "gain": {**header["gain"], "shape": [2**61]}}, data),
        lambda header, data: packed({**header, "gain": {**header["gain"], "shape": [-1]}}, data),
        lambda header, data: packed({**header, "gain": {**header["gain"], "dtype": "F8_E4M3"}}, data),
        lambda header, data: packed({**header, "gain": header["shift"]}, data),
        lambda header, data: packed({**header, "gain": 5}, data),
        lambda header, data: packed({**header, "__metadata__": {"a": 1}}, data),
    ],
)
def test_a_malformed_file_is_refused_by_its_name(stub, stored, spoil):
    contents = files(stored / "boosting")
    contents["network.safetensors"] = spoil(*header_of(contents["network.safetensors"])) or b"x"
    assert refused(stub, "boosting", contents) == "network.safetensors"


@pytest.mark.parametrize(
    "text", [b"{", b"[" * 50 + b"]" * 50, b'{"a": NaN}', b"\xff", b"[" * 1_000_000, b"1" * 5000, b'"unended']
)
def test_json_that_is_none_is_refused(stub, stored, text):
    assert refused(stub, "boosting", {**files(stored / "boosting"), "model.json": text}) == "model.json"


def test_what_is_too_large_for_this_server_is_refused_as_such(stub, stored, tmp_path):
    from relaxon.neuromorphic.boosting import GradientBoostedNetworkRegressor

    GradientBoostedNetworkRegressor(60, learning_rate=0.1, random_state=0).fit(X, X[:, 0]).save(tmp_path / "big")
    exhausted = grpc.StatusCode.RESOURCE_EXHAUSTED
    assert refused(stub, "boosting", files(tmp_path / "big"), exhausted) == "units"


@pytest.mark.parametrize(
    ("change", "field"),
    [
        (lambda d: d.update(sizes=[3, 10**4, 2]), "units"),
        (lambda d: d.update(sizes=[3, 40, 2]), "sizes"),
        (lambda d: d.update(sizes=[3, -4, 2]), "sizes"),
        (lambda d: d.update(sizes="3"), "sizes"),
        (lambda d: d.update(kind="convolutional"), "description"),
        (lambda d: d.update(dtype="float16"), "files"),
        (lambda d: d.update(activation="exec"), "files"),
        (lambda d: d.pop("card"), "description"),
        (lambda d: d["card"]["classifier"].update(mean=["a", "b", "c"]), "mean"),
        (lambda d: d["card"]["classifier"]["classes"].update(dtype="V99999999"), "classes"),
        (lambda d: d["card"]["classifier"]["parameters"].update(device="cuda"), "parameters"),
        (lambda d: d["card"]["classifier"]["parameters"].update(no_such=1), "files"),
    ],
)
def test_an_equilibrium_network_s_description_is_checked_before_it_is_made(stub, stored, change, field):
    contents = files(stored / "equilibrium")
    header, data = header_of(contents["network.safetensors"])
    description = json.loads(header["__metadata__"]["description"])
    change(description)
    header["__metadata__"]["description"] = json.dumps(description)
    contents["network.safetensors"] = packed(header, data)
    code = grpc.StatusCode.RESOURCE_EXHAUSTED if field == "units" else grpc.StatusCode.INVALID_ARGUMENT
    assert refused(stub, "equilibrium", contents, code) == field


@pytest.mark.parametrize("kind", ["boosting", "convex", "equilibrium"])
def test_spoiled_files_are_refused_or_are_whole_and_nothing_else(stored, tmp_path, kind):
    """Bytes changed at random, in JSON and in tensors: a refusal with a proper code, or a model that predicts."""
    from relaxon.server.gate.errors import ServiceError
    from relaxon.server.training.registry import ENGINES
    from relaxon.server.training.stored_files import check_whole

    rng, settings, sound = np.random.default_rng(5), ServerSettings(), files(stored / kind)
    codes = set()
    for _ in range(60):
        for name, content in sound.items():
            spoiled = bytearray(content)
            for _ in range(rng.integers(1, 4)):
                at, change = rng.integers(len(spoiled)), rng.integers(3)
                if change == 0:
                    spoiled[at] ^= 1 << rng.integers(8)
                elif change == 1:
                    del spoiled[at : at + rng.integers(1, 9)]
                else:
                    spoiled[at:at] = rng.bytes(rng.integers(1, 9))
            (tmp_path / name).write_bytes(spoiled)
        try:
            check_whole(ENGINES[kind], tmp_path, settings)
            codes.add("whole")
        except ServiceError as error:
            codes.add(error.code)
    assert codes <= {"whole", grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.RESOURCE_EXHAUSTED}
    assert grpc.StatusCode.INVALID_ARGUMENT in codes
