"""The blocking client is generated from the asyncio one, and both have one surface: names, parameters, types."""

import inspect
import re
import subprocess
import sys
from collections.abc import AsyncIterable, AsyncIterator, Iterator
from pathlib import Path
from types import UnionType
from typing import get_args, get_origin, get_type_hints

import pytest

from relaxon import aio, client

PAIRS = {
    "Client": (client.Client, aio.Client),
    "PoissonClient": (client.PoissonClient, aio.PoissonClient),
    "LinearClient": (client.LinearClient, aio.LinearClient),
    "RemoteMatrix": (client.RemoteMatrix, aio.RemoteMatrix),
    "RemoteGrid": (client.RemoteGrid, aio.RemoteGrid),
    "BoostingClient": (client.BoostingClient, aio.BoostingClient),
    "ConvexClient": (client.ConvexClient, aio.ConvexClient),
    "EnergyClient": (client.EnergyClient, aio.EnergyClient),
    "EquilibriumClient": (client.EquilibriumClient, aio.EquilibriumClient),
    "ProximalClient": (client.ProximalClient, aio.ProximalClient),
    "Job": (client.Job, aio.Job),
    "JobsClient": (client.JobsClient, aio.JobsClient),
    "ModelsClient": (client.ModelsClient, aio.ModelsClient),
}
TOOL = Path(__file__).parents[2] / "tools" / "generate_client.py"
WORDS_OF_EVENT_LOOPS = re.compile(r"\basync|\bawait|event loop|other tasks|several tasks", re.I)
ASKS_NOBODY = {"__repr__", "empty"}
"""What gives its answer at once."""
BLOCKING_NAMES = {"__enter__": "__aenter__", "__exit__": "__aexit__"}


def members(kind):
    """Public methods and properties, and those that `with` statements use, wherever in the hierarchy."""
    return {
        name: inspect.getattr_static(kind, name)
        for name in dir(kind)
        if not name.startswith("_") or name in (*BLOCKING_NAMES, *BLOCKING_NAMES.values())
    }


def as_said(annotation):
    """A type as text, in which only what has to differ between the clients is made the same."""
    choices = [one for one in get_args(annotation) if get_origin(one) is not AsyncIterable]
    if get_origin(annotation) is UnionType and len(choices) == 1:
        annotation = choices[0]  # what may be pulled from an async iterable, too
    if isinstance(annotation, type) and not hasattr(annotation, "__args__"):
        text = annotation.__module__ + "." + annotation.__qualname__
    else:
        text = str(annotation)
    text = re.sub(r"[\w.]+\.Opening\[(.*)\]", r"\1", text)
    text = text.replace("relaxon.client._async.", "relaxon.client._sync.")
    return text.replace("collections.abc.AsyncIterator", "collections.abc.Iterator")


def signature(function):
    hints = get_type_hints(function, vars(inspect.getmodule(function)))
    shown = [
        (one.name, one.kind, one.default, as_said(hints[one.name]) if one.name in hints else None)
        for one in inspect.signature(function).parameters.values()
    ]
    return shown, as_said(hints["return"])


def function_of(member):
    return member.fget if isinstance(member, property) else member


@pytest.mark.parametrize("name", PAIRS)
def test_both_have_the_same_names(name):
    blocking, awaited = (set(members(kind)) for kind in PAIRS[name])
    assert {BLOCKING_NAMES.get(one, one) for one in blocking} == awaited


def calls():
    for name, (blocking, awaited) in PAIRS.items():
        for one, member in members(blocking).items():
            yield pytest.param(blocking, awaited, one, member, id=f"{name}.{one}")
    yield pytest.param(client, aio, "connect", client.connect, id="connect")


@pytest.mark.parametrize(("blocking", "awaited", "name", "member"), list(calls()))
def test_a_call_has_the_same_parameters_and_types_and_the_docs_of_its_client(blocking, awaited, name, member):
    other = inspect.getattr_static(awaited, BLOCKING_NAMES.get(name, name))
    assert type(other) is type(member)
    ours, theirs = function_of(member), function_of(other)
    assert signature(ours) == signature(theirs)
    assert bool(ours.__doc__) == bool(theirs.__doc__)
    assert not WORDS_OF_EVENT_LOOPS.search(ours.__doc__ or "")


@pytest.mark.parametrize(("blocking", "awaited", "name", "member"), list(calls()))
def test_what_waits_for_the_server_is_awaited(blocking, awaited, name, member):
    other = function_of(inspect.getattr_static(awaited, BLOCKING_NAMES.get(name, name)))
    returned = get_type_hints(other, vars(inspect.getmodule(other)))["return"]
    gives = getattr(returned, "__origin__", returned)
    if name in ASKS_NOBODY or gives in (aio.Opening, AsyncIterator):
        assert not inspect.iscoroutinefunction(other)
    else:
        assert inspect.iscoroutinefunction(other), f"{name} would block the event loop"
    assert gives is not Iterator


def test_results_settings_and_errors_are_the_same_classes():
    ours = set(client.__all__) - set(aio.__all__)
    # What is left are classes without calls: there is one of each.
    assert not [name for name in ours if hasattr(getattr(client, name), "_caller")]
    assert set(aio.__all__) - set(client.__all__) == {"Opening"}


def test_the_committed_blocking_client_is_the_generated_one():
    checked = subprocess.run([sys.executable, TOOL, "--check"], capture_output=True, text=True)
    assert checked.returncode == 0, checked.stderr


def test_errors_show_their_documented_name():
    for name in client.errors.__all__:
        assert getattr(client, name).__module__ == "relaxon.client.errors"
