"""Freed memory is kept for the next arrays."""

import platform
import subprocess
import sys

import pytest

COUNT = """
import resource, sys
import numpy as np
from relaxon.solvers.kernels.memory import keep_freed_memory

def count():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(20):
        arrays = [np.ones(100_000) for _ in range(5)]
        del arrays
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

keep_freed_memory()
count()
print(count())
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="glibc keeps blocks of the size that was freed")
def test_arrays_that_follow_others_touch_few_fresh_pages():
    found = subprocess.run([sys.executable, "-c", COUNT], capture_output=True, text=True, check=True)
    assert int(found.stdout) < 20 * 5 * 195 / 4
