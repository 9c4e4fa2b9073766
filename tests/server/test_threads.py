"""The engines' threads give way to other programs, unless the caller wants them otherwise."""

import os

from relaxon.server import threads


def test_waiting_threads_sleep_unless_told_otherwise(monkeypatch):
    monkeypatch.delenv(threads.WAIT_POLICY, raising=False)
    threads.wait_asleep()
    assert os.environ[threads.WAIT_POLICY] == "passive"
    monkeypatch.setenv(threads.WAIT_POLICY, "active")
    threads.wait_asleep()
    assert os.environ[threads.WAIT_POLICY] == "active"
