"""Hostile calls to every served method: what is found is nothing, and what would be a finding is one."""

from pathlib import Path

import pytest

BENCH = Path(__file__).parents[2] / "bench"


@pytest.fixture
def fuzz(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCH))
    import fuzz

    return fuzz


@pytest.fixture
def hostile(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCH))
    from measuring.service import hostile as hostile

    return hostile


def check(outcome, count):
    from relaxon.server.app import SERVED

    assert outcome.findings == []
    assert set(SERVED) <= set(outcome.services)
    for name, tally in outcome.services.items():
        assert tally.messages >= count
        # Some came as far as an answer: the attack does not only knock.
        # An attendance never ends by itself.
        assert tally.codes.get("OK", 0) + (tally.codes.get("DEADLINE_EXCEEDED", 0) if "Session" in name else 0) > 0
        assert tally.codes.get("INVALID_ARGUMENT", 0) > 0


@pytest.mark.timeout(300)
def test_hundreds_of_hostile_messages_to_each_service_find_nothing(fuzz):
    check(fuzz.run(200, seed=7, secured=True), 200)


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("secured", [True, False])
def test_ten_thousand_hostile_messages_to_each_service_find_nothing(fuzz, secured):
    check(fuzz.run(10_000, seed=8, secured=secured), 10_000)


@pytest.mark.parametrize(
    ("code", "ending", "token", "finding"),
    [
        ("UNKNOWN", "close", True, True),
        ("INTERNAL", "close", True, True),
        ("UNAVAILABLE", "close", True, True),
        ("OK", "close", False, True),
        ("NOT_FOUND", "close", False, True),
        ("DEADLINE_EXCEEDED", "close", True, True),
        ("DEADLINE_EXCEEDED", "leave", True, False),
        ("UNAUTHENTICATED", "close", False, False),
        ("INVALID_ARGUMENT", "close", True, False),
    ],
)
def test_what_should_not_have_been_is_a_finding(fuzz, hostile, code, ending, token, finding):
    outcome = fuzz.Outcome()
    served = fuzz.Served("", fuzz.Security(token="relaxon_x"), None, Path())
    call = hostile.HostileCall("/relaxon.v1.PoissonService/CreateGrid", (b"",), ending, (), token)
    fuzz._examine(served, call, code, "", 5.0, outcome)
    assert bool(outcome.findings) is finding


def test_a_seed_makes_the_same_calls_again(hostile):
    from relaxon.proto import poisson_pb2

    method = poisson_pb2.DESCRIPTOR.services_by_name["PoissonService"].methods_by_name["Solve"]
    known = {"grid_id": ["a"]}
    once, again = (hostile.Attacker("1", known) for _ in range(2))
    assert [once.call(method) for _ in range(50)] == [again.call(method) for _ in range(50)]
    assert [hostile.Attacker("2", known).call(method) for _ in range(5)] != [once.call(method) for _ in range(5)]
