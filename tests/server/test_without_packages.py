"""A server where packages are not installed: what it serves, what it says it cannot, and what it refuses."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

import pytest
from without_packages import run_without

from relaxon.cli import main
from relaxon.client import EngineInfo
from relaxon.client.shared.status import parse_status as read_status
from relaxon.proto import boosting_pb2, status_pb2
from relaxon.server.gate import errors
from relaxon.server.jobs import records as jobs
from relaxon.server.jobs.operations_service import OperationsServicer, Presentation
from relaxon.server.jobs.records import JobRecord
from relaxon.server.training.registry import ENGINES

SERVER = """
import asyncio, json, sys
from dataclasses import asdict
from pathlib import Path
import grpc, numpy as np
from google.rpc import error_details_pb2
from grpc_status import rpc_status
import relaxon, relaxon.aio
from relaxon.client import BoostingSettings, ConvexSettings, FailedPrecondition, InvalidArgument
from relaxon.client import ProximalNetwork, ProximalSettings
from relaxon.proto import equilibrium_pb2, equilibrium_pb2_grpc
from relaxon.wire import tensors
from relaxon.server.app import EmbeddedServer
from relaxon.server.config.settings import ServerSettings

X, B = np.random.default_rng(0).standard_normal((40, 2)), np.ones((12, 12))
LABELS = (X[:, 0] > 0).astype(int)
said = {"refused": {}}

def attempt(name, call):
    try:
        call()
        said["refused"][name] = None
    except FailedPrecondition as error:
        said["refused"][name] = str(error)
    except InvalidArgument:
        said["refused"][name] = None

async def status(target):
    async with relaxon.aio.connect(target) as client:
        return await client.status()

def violation(target):
    header = equilibrium_pb2.TrainEquilibriumHeader(
        features=tensors.describe_array(X), target=tensors.describe_array(LABELS.astype(float)),
        classes={"integers": {"values": [0, 1]}},
    )
    with grpc.insecure_channel(target) as channel:
        stub = equilibrium_pb2_grpc.EquilibriumServiceStub(channel)
        try:
            stub.Train(iter([equilibrium_pb2.TrainEquilibriumRequest(header=header)]), timeout=60)
        except grpc.RpcError as error:
            failure = error_details_pb2.PreconditionFailure()
            assert rpc_status.from_call(error).details[0].Unpack(failure)
            return [failure.violations[0].type, failure.violations[0].subject]

folder = Path(sys.argv[1])
kept = folder / "models" / "equilibrium" / "kept"  # by an earlier server, which had torch
kept.mkdir(parents=True)
(kept / "network.json").write_text("{}")
(kept / "network.safetensors").write_bytes(b"none")
kept_prior = folder / "models" / "proximal" / "kept"
kept_prior.mkdir(parents=True)
for name in ("model.json", "model.safetensors"):
    (kept_prior / name).write_bytes(b"none")
settings = ServerSettings(port=0, model_folder=str(folder / "models"), grace_seconds=0.0)
with EmbeddedServer(settings) as server, relaxon.connect(server.target) as client:
    engines = client.status().engines
    assert engines == asyncio.run(status(server.target)).engines
    said["engines"] = {engine.name: engine.missing for engine in engines}
    said["extras"] = {engine.name: engine.extra for engine in engines}
    for name, listed in (("grid", client.poisson.list_solvers()), ("matrix", client.linear.list_solvers())):
        said[name] = {one.name: [one.missing, one.extra] for one in listed if not one.available}
    with client.poisson.grid(np.zeros(B.shape, np.uint8), boundary="dirichlet") as grid:
        said["solved"] = grid.solve(B, solver="cg").converged
        for solver in ("dcdm-cnn", "dcdm@cpu", "pyamg-sa"):
            attempt(solver, lambda: grid.solve(B, solver=solver))
    from scipy.sparse import eye_array
    with client.linear.matrix(2.0 * eye_array(9).tocsr()) as matrix:
        attempt("matrix", lambda: matrix.solve(np.ones(9), solver="pyamg-rs"))
    attempt("equilibrium", lambda: client.equilibrium.train(X, LABELS))
    attempt("energy", lambda: client.energy.train(X))
    attempt("proximal", lambda: client.proximal.train(X, ProximalNetwork((2,)), ProximalSettings(1.0, 1, (1.0,), 1)))
    attempt("prior", lambda: client.models.upload("proximal", kept_prior))
    attempt("model", lambda: client.equilibrium.model("kept"))
    attempt("models", client.equilibrium.models)
    attempt("predict", lambda: client.equilibrium.predict("kept", X))
    attempt("upload", lambda: client.models.upload("equilibrium", kept))
    said["stored"] = [one.name for one in client.models.list("equilibrium")]
    client.models.download("equilibrium", "kept", folder / "copy")
    client.equilibrium.delete_model("kept")
    settings = BoostingSettings(n_units=2, random_state=0)
    def boost():
        model = client.boosting.train(X, X[:, 0], settings=settings).result(timeout=300)
        said["predicted"] = len(client.boosting.predict(model, X))
    attempt("boosting", boost)
    convex = ConvexSettings(n_patterns=3, refinements=0, max_iter=20, random_state=0)
    attempt("convex", lambda: client.convex.train(X, X[:, 0], settings=convex).result(timeout=300))
    said["violation"] = violation(server.target)
    said["torch"] = "torch" in sys.modules
print(json.dumps(said))
"""


def serve_without(hidden: tuple[str, ...], folder: Path) -> dict:
    done = run_without(hidden, folder, "-c", SERVER, str(folder))
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def test_a_server_without_torch_serves_the_rest_and_says_and_refuses_what_it_cannot(tmp_path):
    said = serve_without(("torch",), tmp_path)
    assert {name for name, missing in said["engines"].items() if missing} == {
        "energy", "equilibrium", "proximal", "dcdm-cnn", "dcdm@device",
    }  # fmt: skip
    assert said["grid"] == {"dcdm-cnn": [["torch"], "neuromorphic"]}
    assert said["matrix"] == {}
    assert said["solved"]
    assert said["predicted"] == 40
    assert said["stored"] == ["kept"]
    assert (tmp_path / "copy" / "network.safetensors").read_bytes() == b"none"
    assert said["violation"] == [errors.MISSING_PACKAGE, "torch"]
    served = {"pyamg-sa", "matrix", "boosting", "convex"}
    for name, refusal in said["refused"].items():
        assert (refusal is None) == (name in served), (name, refusal)
        assert name in served or ("torch" in refusal and 'pip install "relaxon[neuromorphic]"' in refusal)


def test_a_server_without_pyamg_and_scikit_learn_does_the_same(tmp_path):
    said = serve_without(("pyamg", "sklearn"), tmp_path)
    assert {name for name, missing in said["engines"].items() if missing} == {
        "pyamg", "boosting", "convex", "energy", "equilibrium",
    }  # fmt: skip
    assert said["grid"] == said["matrix"] == {name: [["pyamg"], "server"] for name in ("pyamg-sa", "pyamg-rs")}
    assert said["solved"]
    assert {said["refused"][name] for name in ("dcdm@cpu", "dcdm-cnn", "proximal", "prior")} == {None}
    told = 'which is not installed; install it with: pip install "relaxon[server]"'
    for name in ("pyamg-sa", "matrix"):
        assert f"pyamg, {told}" in said["refused"][name]
    for name in ("boosting", "convex", "equilibrium", "energy", "upload"):
        assert f"sklearn, {told}" in said["refused"][name]


WORKER = """
import json, sys
from pathlib import Path
from relaxon.server.jobs.worker import run_training
request = {"kind": sys.argv[2], "parameters": {}, "classes": None, "network": {}, "settings": {}}
print(json.dumps(run_training(Path(sys.argv[1]), request, bool)))
"""


@pytest.mark.parametrize("kind", ["equilibrium", "energy", "proximal"])
def test_a_job_that_an_earlier_server_left_fails_with_the_extra_to_install(kind, tmp_path):
    failed = json.loads(run_without(("torch",), tmp_path, "-c", WORKER, str(tmp_path), kind).stdout)
    assert failed["code"] == "FAILED_PRECONDITION"
    assert 'pip install "relaxon[neuromorphic]"' in failed["message"]


@pytest.mark.parametrize("kind", ENGINES)
def test_an_engine_needs_what_its_models_are_stored_with(kind):
    assert "safetensors" in ENGINES[kind].needs


async def _operation(job: JobRecord) -> object:
    def respond(job):
        raise ModuleNotFoundError("No module named 'torch'", name="torch")

    store = SimpleNamespace(find=lambda _: job, newest=lambda _: None, steps=lambda _: 0)
    presentation = Presentation(lambda job, newest: boosting_pb2.BoostingTraining(), respond)
    runner = SimpleNamespace(store=store)
    return await OperationsServicer(runner, {job.kind: presentation}).operation(job.id)


def test_a_job_whose_model_cannot_be_read_any_more_says_what_to_install():
    import asyncio

    operation = asyncio.run(_operation(jobs.finish_job(JobRecord.new("energy", "m"))))
    assert operation.error.code == 9
    assert 'pip install "relaxon[neuromorphic]"' in operation.error.message


def test_a_job_of_an_engine_that_the_server_does_not_have_is_not_found():
    import asyncio

    job = JobRecord.new("foreign", "m")
    store = SimpleNamespace(find=lambda _: job, newest=lambda _: None, steps=lambda _: 0)
    with pytest.raises(errors.ServiceError, match="is not known"):
        asyncio.run(OperationsServicer(SimpleNamespace(store=store), {}).operation(job.id))


def test_the_status_of_a_server_that_does_not_say_has_no_engines():
    assert read_status(status_pb2.ServerStatus(version="0.1")).engines == ()


def test_the_status_command_says_what_is_not_served(server, monkeypatch, capsys):
    monkeypatch.setattr(
        "relaxon.server.watching.capabilities.find_missing", lambda needs: tuple({"torch"} & set(needs))
    )
    assert main(["status", "--target", server.target, "--json"]) == 0
    engines = json.loads(capsys.readouterr().out)["engines"]
    assert {"name": "energy", "missing": ["torch"], "extra": "neuromorphic"} in engines
    monkeypatch.setenv("COLUMNS", "200")
    assert main(["status", "--target", server.target]) == 0
    shown = capsys.readouterr().out
    assert 'equilibrium needs torch: pip install "relaxon[neuromorphic]"' in shown
    assert "poisson" not in shown


def test_an_engine_is_available_where_nothing_is_missing():
    assert EngineInfo("poisson", (), "server").available
    assert not EngineInfo("energy", ("torch",), "neuromorphic").available
