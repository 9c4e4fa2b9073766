"""Who a call comes from: what is seen of another's things, and that threads and tasks know it."""

import asyncio

import pytest

from relaxon.server.gate.identity import ANYONE, Caller, Role, acting, current


@pytest.mark.parametrize("role", [Role.READ, Role.SOLVE, Role.TRAIN])
def test_a_caller_sees_its_own_and_nobody_else_s(role):
    caller = Caller("ada", role)
    assert caller.sees("ada")
    assert not caller.sees("ben")
    assert not caller.sees("")


def test_an_admin_and_a_server_without_tokens_see_all():
    assert Caller("root", Role.ADMIN).sees("ada")
    assert ANYONE.sees("ada")
    assert ANYONE.sees("")


def test_a_role_may_do_what_the_lesser_ones_may():
    assert [Caller("ada", Role.TRAIN).may(role) for role in Role] == [True, True, True, False]


def test_a_thread_and_a_task_of_a_call_know_its_caller_and_others_do_not():
    async def call(name):
        with acting(Caller(name, Role.SOLVE)):
            await asyncio.sleep(0)
            return current().name, (await asyncio.to_thread(current)).name

    async def main():
        return await asyncio.gather(call("ada"), call("ben")), current()

    told, outside = asyncio.run(main())
    assert told == [("ada", "ada"), ("ben", "ben")]
    assert outside is ANYONE
