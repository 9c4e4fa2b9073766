"""What one caller makes, another does not see: grids, jobs, models. An admin sees all."""

import numpy as np
import pytest
from google.longrunning import operations_pb2, operations_pb2_grpc
from secured import Authority

import relaxon
from relaxon import client as errors
from relaxon.client import BoostingSettings
from relaxon.client.shared.transport import Security, channel
from relaxon.server.app import EmbeddedServer
from relaxon.server.config.settings import ServerSettings
from relaxon.server.gate import tokens
from relaxon.server.gate.identity import Role

X = np.random.default_rng(0).standard_normal((20, 2))


@pytest.fixture(scope="module")
def authority(tmp_path_factory):
    return Authority.make(tmp_path_factory.mktemp("authority"), "root", Role.ADMIN)


@pytest.fixture(scope="module")
def connected(authority):
    with EmbeddedServer(ServerSettings(port=0, grace_seconds=0.0, **authority.settings)) as server:
        made = {"root": authority.token}
        for name, role in (("ada", Role.TRAIN), ("ben", Role.TRAIN)):
            made[name] = tokens.add(authority.token_file, name, role)
        # Another token of the same name is the same caller.
        made["ada again"] = tokens.add(authority.token_file, "ada", Role.TRAIN)
        clients = {
            name: relaxon.connect(server.target, token=token, root_certificates=authority.roots)
            for name, token in made.items()
        }
        stubs = {
            name: operations_pb2_grpc.OperationsStub(
                channel(server.target, Security(token=token, root_certificates=authority.roots))
            )
            for name, token in made.items()
        }
        yield clients, stubs
        for client in clients.values():
            client.close()


@pytest.fixture(scope="module")
def trained(connected):
    """ada's job, which has made the model "hers"."""
    boosting = connected[0]["ada"].boosting
    job = boosting.train(X, X[:, 0], settings=BoostingSettings(n_units=2), model="hers")
    job.result(60)
    gone = boosting.train(X, X[:, 0], settings=BoostingSettings(n_units=2), model="gone")
    gone.result(60)
    boosting.delete_model("gone")
    return job.name


def test_a_grid_is_its_maker_s(connected):
    clients, _ = connected
    grid = clients["ada"].poisson.grid(np.zeros((4, 4), np.uint8), boundary="dirichlet")
    assert grid.solve(np.ones((4, 4)), solver="cg").converged
    from relaxon.proto import poisson_pb2, poisson_pb2_grpc

    def delete(name):
        with errors_of():
            poisson_pb2_grpc.PoissonServiceStub(clients[name]._channel).DeleteGrid(
                poisson_pb2.DeleteGridRequest(id=grid.id), timeout=60
            )

    with pytest.raises(errors.NotFound) as caught:
        delete("ben")
    assert "never made, was deleted, or has expired" in str(caught.value)
    assert grid.solve(np.ones((4, 4)), solver="cg").converged
    delete("ada again")


def errors_of():
    from relaxon.core.errors import translated

    return translated()


def test_a_job_is_its_maker_s(connected, trained):
    clients, stubs = connected
    for call in ("GetOperation", "WaitOperation", "CancelOperation", "DeleteOperation"):
        request = getattr(operations_pb2, f"{call}Request")(name=trained)
        absent = getattr(operations_pb2, f"{call}Request")(name="operations/" + 32 * "0")
        told = []
        for one in (request, absent):
            with pytest.raises(errors.NotFound) as caught, errors_of():
                getattr(stubs["ben"], call)(one, timeout=60)
            told.append(str(caught.value).replace(one.name, "NAME"))
        assert told[0] == told[1]
    with pytest.raises(errors.NotFound):
        clients["ben"].boosting.job(trained)
    # Nor does the token of a next page tell that there is more.
    first = operations_pb2.ListOperationsRequest(page_size=1)
    assert stubs["ben"].ListOperations(first, timeout=60) == operations_pb2.ListOperationsResponse()
    for name, seen in (("ada", 2), ("ada again", 2), ("root", 2), ("ben", 0)):
        listed = stubs[name].ListOperations(operations_pb2.ListOperationsRequest(), timeout=60)
        assert len(listed.operations) == seen, name
    assert clients["ada again"].boosting.job(trained).result(20).name == "hers"


def test_progress_of_a_job_is_its_maker_s(connected, trained):
    clients, _ = connected
    from relaxon.proto import boosting_pb2, boosting_pb2_grpc

    stub = boosting_pb2_grpc.BoostingServiceStub(clients["ben"]._channel)
    with pytest.raises(errors.NotFound), errors_of():
        list(stub.Watch(boosting_pb2.WatchBoostingRequest(operation=trained), timeout=60))


def test_a_model_is_its_maker_s(connected, trained, tmp_path):
    clients, _ = connected
    ben, root = clients["ben"], clients["root"]
    for forbidden in (
        lambda: ben.boosting.model("hers"),
        lambda: ben.boosting.predict("hers", X),
        lambda: ben.boosting.truncate("hers", 1),
        lambda: ben.boosting.delete_model("hers"),
        lambda: ben.models.get("boosting", "hers"),
        lambda: ben.models.download("boosting", "hers", tmp_path),
        lambda: ben.models.delete("boosting", "hers"),
    ):
        with pytest.raises(errors.NotFound):
            forbidden()
    assert ben.boosting.models() == ()
    assert ben.models.list() == ()
    assert [model.name for model in clients["ada again"].boosting.models()] == ["hers"]
    assert [(model.name, model.owner) for model in root.models.list()] == [("hers", "ada")]
    assert len(root.boosting.predict("hers", X)) == len(X)
    with pytest.raises(errors.AlreadyExists):
        ben.boosting.train(X, X[:, 0], settings=BoostingSettings(n_units=1), model="hers")


def test_what_was_cut_or_uploaded_is_the_caller_s_who_did_it(connected, trained, tmp_path):
    clients, _ = connected
    root, ben = clients["root"], clients["ben"]
    root.models.download("boosting", "hers", tmp_path)
    assert ben.models.upload("boosting", tmp_path, name="copy").owner == "ben"
    ben.boosting.truncate("copy", 1, name="short")
    assert [(model.name, model.owner) for model in ben.models.list()] == [("copy", "ben"), ("short", "ben")]
    with pytest.raises(errors.NotFound):
        clients["ada"].models.get("boosting", "copy")
