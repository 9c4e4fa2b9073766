"""Tokens, certificates and roles, over the wire: who is let in, what the others learn, and what each may see."""

import os
import stat
import threading
from datetime import UTC, datetime, timedelta

import grpc
import pytest
from grpc_health.v1 import health_pb2
from secured import Authority, channel

import relaxon
from relaxon import client as errors
from relaxon.client.shared.transport import Security
from relaxon.server.app import SERVED, EmbeddedServer
from relaxon.server.config.settings import ServerSettings
from relaxon.server.gate import access, identity, tokens
from relaxon.server.gate.identity import Role

LIST = "/relaxon.v1.PoissonService/ListSolvers"
CHECK = "/grpc.health.v1.Health/Check"
METHODS = [
    LIST,
    "/relaxon.v1.PoissonService/Solve",
    "/relaxon.v1.BoostingService/Train",
    "/google.longrunning.Operations/ListOperations",
    "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
    CHECK,
    "/relaxon.v1.PoissonService/NoSuchMethod",
    "/no.such.Service/Method",
    "/",
    "",
]


@pytest.fixture(scope="module")
def authority(tmp_path_factory):
    return Authority.make(tmp_path_factory.mktemp("authority"), "ada", Role.TRAIN)


@pytest.fixture(scope="module")
def guarded(authority):
    with EmbeddedServer(ServerSettings(port=0, grace_seconds=0.0, **authority.settings)) as server:
        yield server


@pytest.fixture
def tls(authority):
    return Security(root_certificates=authority.roots)


def refusal(channel, method, metadata=()):
    """All that a caller can see of a refused call, the request's random id aside. No message is sent."""
    call = channel.stream_stream(method)(iter(()), timeout=60, metadata=metadata)
    with pytest.raises(grpc.RpcError) as caught:
        next(call)
    error = caught.value
    trailing = {key for key, _ in error.trailing_metadata()}
    return error.code(), error.details(), tuple(error.initial_metadata()), trailing


@pytest.mark.parametrize(
    "authorization",
    [
        None,
        "Bearer ",
        "Bearer relaxon_" + "A" * 43,
        "Bearer " + "x" * 5000,
        "Basic dXNlcjpwYXNz",
        "Bearer sha256:" + 64 * "0",
        "two",
    ],
)
def test_without_a_token_every_method_known_or_not_says_the_same(guarded, tls, authority, authorization):
    metadata = () if authorization is None else (("authorization", authorization),)
    if authorization == "two":
        # Which of two is meant cannot be known.
        metadata = (("authorization", f"Bearer {authority.token}"), ("authorization", "Bearer x"))
    with channel(guarded.target, tls) as plain:
        told = {refusal(plain, method, metadata)[:3] for method in METHODS if method.count("/") == 2}
    assert told == {(grpc.StatusCode.UNAUTHENTICATED, "a valid token is needed for this call", ())}


@pytest.mark.parametrize("method", METHODS[:4])
def test_the_refusal_comes_before_anything_of_the_stream(guarded, tls, method):
    hold = threading.Event()

    def silence():
        hold.wait(30)
        yield b""

    with channel(guarded.target, tls) as plain:
        call = plain.stream_stream(method)(silence(), timeout=60)
        try:
            assert call.code() is grpc.StatusCode.UNAUTHENTICATED
        finally:
            hold.set()


def test_a_stored_hash_is_no_token(guarded, tls, authority):
    digest = tokens.read(authority.token_file)[0].digest
    with channel(guarded.target, tls) as plain:
        for word in (digest, f"sha256:{digest}"):
            assert refusal(plain, LIST, (("authorization", f"Bearer {word}"),))[0] is grpc.StatusCode.UNAUTHENTICATED


def test_a_token_lets_in_and_an_unknown_method_is_then_told_of(guarded, authority):
    security = Security(token=authority.token, root_certificates=authority.roots)
    with channel(guarded.target, security) as known:
        assert known.unary_unary(CHECK)(b"", timeout=60) == b"\x08\x01"
        assert refusal(known, METHODS[6])[0] is grpc.StatusCode.UNIMPLEMENTED
    with relaxon.connect(guarded.target, token=authority.token, root_certificates=authority.roots) as client:
        assert client.poisson.list_solvers()


def test_the_client_s_errors_tell_no_token_from_too_small_a_role(guarded, authority):
    with (
        relaxon.connect(guarded.target, root_certificates=authority.roots) as client,
        pytest.raises(errors.Unauthenticated),
    ):
        client.health()
    token = tokens.add(authority.token_file, "reader", Role.READ)
    with relaxon.connect(guarded.target, token=token, root_certificates=authority.roots) as client:
        assert client.boosting.models() == ()
        with pytest.raises(errors.PermissionDenied, match="needs the role train, got read"):
            client.boosting.delete_model("none")


def test_a_token_is_taken_as_soon_as_it_is_added_and_no_longer_once_removed(guarded, tls, authority):
    token = tokens.add(authority.token_file, "guest", Role.READ)
    metadata = (("authorization", f"Bearer {token}"),)
    with channel(guarded.target, tls) as plain:
        list_solvers = plain.unary_unary(LIST)
        assert list_solvers(b"", metadata=metadata, timeout=60)
        assert tokens.remove(authority.token_file, "guest") == 1
        assert refusal(plain, LIST, metadata)[0] is grpc.StatusCode.UNAUTHENTICATED


def test_a_broken_token_file_shuts_nobody_out_and_is_not_read_on(tmp_path, caplog):
    path = tmp_path / "tokens"
    token = tokens.add(path, "ada", Role.SOLVE)
    kept = tokens.TokenFile(path)
    path.write_text("nonsense\n")
    assert kept.caller(token) == identity.Caller("ada", Role.SOLVE)
    assert "stay valid" in caplog.text
    path.unlink()
    assert kept.caller(token) is not None


def test_an_expired_token_is_nobody_s(tmp_path):
    path = tmp_path / "tokens"
    token = tokens.add(path, "ada", Role.SOLVE, datetime.now(UTC).date())
    now = datetime.now(UTC)
    assert tokens.TokenFile(path, clock=now.timestamp).caller(token) is not None
    later = now + timedelta(days=1)
    assert tokens.TokenFile(path, clock=later.timestamp).caller(token) is None


def test_the_token_file_holds_no_token_and_is_its_owner_s_alone(tmp_path):
    path = tmp_path / "tokens"
    token = tokens.add(path, "ada", Role.ADMIN)
    assert token.startswith(tokens.PREFIX)
    assert token.removeprefix(tokens.PREFIX) not in path.read_text()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    other = tokens.add(path, "ada", Role.READ)
    assert other != token
    assert [entry.role for entry in tokens.read(path)] == [Role.ADMIN, Role.READ]
    os.chmod(path, 0o666)
    with pytest.raises(ValueError, match="must not be writable by others"):
        tokens.read(path)


@pytest.mark.parametrize(
    "line",
    [
        "ada solve relaxon_secret 2026-01-01",
        "ada chief sha256:" + 64 * "0" + " 2026-01-01",
        "ada solve sha256:" + 64 * "0",
        "../x solve sha256:" + 64 * "0" + " 2026-01-01",
        "ada solve sha256:" + 64 * "0" + " 2026-01-01 2026-13-01",
    ],
)
def test_a_bad_line_is_named_by_its_number_and_not_shown(tmp_path, line):
    path = tmp_path / "tokens"
    path.write_text(f"# comment\n\n{line}\n")
    path.chmod(0o600)
    with pytest.raises(ValueError, match="line 3 must be") as caught:
        tokens.read(path)
    assert "secret" not in str(caught.value)


def test_every_stored_hash_is_compared_whatever_the_token(tmp_path, monkeypatch):
    path = tmp_path / "tokens"
    made = [tokens.add(path, name, Role.READ) for name in ("a", "b", "c")]
    kept, compared = tokens.TokenFile(path), []
    compare = tokens.hmac.compare_digest
    monkeypatch.setattr(tokens.hmac, "compare_digest", lambda a, b: compared.append(1) or compare(a, b))
    for token in (*made, "relaxon_wrong", ""):
        compared.clear()
        kept.caller(token)
        assert len(compared) == 3


def test_health_is_closed_with_the_rest_and_can_be_opened(authority, tls):
    with (
        EmbeddedServer(ServerSettings(port=0, grace_seconds=0.0, open_health=True, **authority.settings)) as server,
        channel(server.target, tls) as plain,
    ):
        check = plain.unary_unary(CHECK, health_pb2.HealthCheckRequest.SerializeToString)
        assert check(health_pb2.HealthCheckRequest(), timeout=60) == b"\x08\x01"
        assert refusal(plain, LIST)[0] is grpc.StatusCode.UNAUTHENTICATED


def test_a_certificate_of_the_authority_is_asked_for_and_is_the_caller_s_name(authority):
    settings = {**authority.settings, "token_file": "", "tls_client_ca": str(authority.roots)}
    with EmbeddedServer(ServerSettings(port=0, grace_seconds=0.0, certificate_role="read", **settings)) as server:
        own = authority.client_certificate("ben")
        with relaxon.connect(server.target, root_certificates=authority.roots, client_certificate=own) as client:
            assert client.health() == "SERVING"
            with pytest.raises(errors.PermissionDenied, match="got read"):
                client.boosting.delete_model("none")
        with pytest.raises(errors.Unavailable):
            relaxon.connect(server.target, root_certificates=authority.roots, timeout=2)


def test_a_new_certificate_is_shown_without_a_restart(tmp_path):
    (tmp_path / "old").mkdir()
    (tmp_path / "new").mkdir()
    old, new = (Authority.make(tmp_path / name) for name in ("old", "new"))
    with EmbeddedServer(ServerSettings(port=0, grace_seconds=0.0, **old.settings)) as server:
        with relaxon.connect(server.target, token=old.token, root_certificates=old.roots) as client:
            assert client.health() == "SERVING"
        os.replace(new.key, old.key)
        os.replace(new.certificate, old.certificate)
        with relaxon.connect(server.target, token=old.token, root_certificates=new.roots) as client:
            assert client.health() == "SERVING"


def test_the_key_of_another_certificate_is_refused_at_the_start(tmp_path, authority):
    other = Authority.make(tmp_path)
    settings = ServerSettings(port=0, **{**authority.settings, "tls_key": str(other.key)})
    with pytest.raises(ValueError, match="tls_key .* must be the key of"), EmbeddedServer(settings):
        pass


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"token_file": "t"}, "tokens would travel in clear"),
        ({"token_file": "t", "insecure": True}, "tokens would travel in clear"),
        ({"tls_certificate": "c", "tls_key": "k"}, "^host must be a loopback address"),
        ({"tls_certificate": "c"}, "^tls_key must be given"),
        ({"tls_key": "k"}, "^tls_certificate must be given"),
        ({"tls_client_ca": "c"}, "^tls_client_ca must come with"),
        ({"open_health": True}, "^open_health must come with"),
        ({"certificate_role": "chief"}, "^certificate_role must be one of"),
    ],
)
def test_settings_that_leave_a_hole_are_refused(given, message):
    with pytest.raises(ValueError, match=message):
        ServerSettings(host="192.0.2.1", **given)


@pytest.mark.parametrize("also", [{"token_file": "t"}, {"tls_client_ca": "a"}])
def test_others_are_served_with_encryption_and_authentication(also):
    assert ServerSettings(host="0.0.0.0", tls_certificate="c", tls_key="k", **also).authenticated


@pytest.mark.parametrize("target", ["192.0.2.1:1", "example.org:1", "dns:///example.org:1"])
def test_a_client_sends_no_token_in_clear_to_another_machine(target):
    with pytest.raises(errors.InvalidArgument, match="^token must not be sent in clear"):
        relaxon.connect(target, token="relaxon_x", timeout=1)
    assert "relaxon_x" not in repr(Security(token="relaxon_x"))


def test_the_secured_suite_is_secured(tmp_path):
    """What `pytest --secure` does: servers and clients that know nothing of it speak TLS with a token."""
    from secured import everything_secured

    with everything_secured(tmp_path), EmbeddedServer(ServerSettings(port=0, grace_seconds=0.0)) as server:
        with relaxon.connect(server.target) as client:
            status = client.status()
            assert (status.encrypted, status.authenticated, status.caller) == (True, True, "tests")
        with pytest.raises(errors.Unauthenticated):
            relaxon.connect(server.target, root_certificates=tmp_path / "roots.pem").health()


def test_each_method_that_is_served_has_the_role_that_is_meant():
    """A method that is added has to be put into this list, by somebody who has thought of its role."""
    read = "ListSolvers ListMatrixSolvers GetModel ListModels Watch Check GetOperation ListOperations WaitOperation "
    read += "GetStatus ServerReflectionInfo Download List"
    solve = "CreateGrid UpdateGrid Solve SolveSteps DeleteGrid CreateMatrix UpdateMatrix DescribeMatrix SolveMatrix "
    solve += "SolveMatrixSteps DeleteMatrix Attend "
    solve += "Predict CompareGradients LogDensity Sample LogPartition Denoise Prior ExportNetlist"
    train = "Train Truncate DeleteModel CancelOperation DeleteOperation Upload"
    meant = dict.fromkeys(read.split(), Role.READ) | dict.fromkeys(solve.split(), Role.SOLVE)
    meant |= dict.fromkeys(train.split(), Role.TRAIN)
    found = {method: access.find_role(method) for method in served_methods()}
    assert found
    assert {method: meant.get(method.rpartition("/")[2]) for method in found} == found
    assert access.find_role("/grpc.channelz.v1.Channelz/GetServers") is Role.ADMIN


def served_methods():
    from google.protobuf import descriptor_pool

    pool = descriptor_pool.Default()
    for service in SERVED:
        for method in pool.FindServiceByName(service).methods:
            yield f"/{service}/{method.name}"


@pytest.mark.parametrize("setting", ["token_file", "tls_certificate", "tls_key", "tls_client_ca"])
def test_a_file_that_cannot_be_read_is_refused_by_its_setting_s_name(authority, tmp_path, setting):
    missing = str(tmp_path / "not there")
    settings = ServerSettings(port=0, **{**authority.settings, setting: missing})
    with pytest.raises(
        FileNotFoundError, match=f"{setting} must name a file that can be read, got .*not there.*: No such"
    ):
        EmbeddedServer(settings).__enter__()
