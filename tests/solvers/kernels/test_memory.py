"""Freed memory is kept for the next arrays, and those of an iteration begin with a cache line."""

import platform
import subprocess
import sys

import numpy as np
import pytest

from relaxon.solvers import gallery, prepare
from relaxon.solvers.kernels.memory import LINE, allocate, allocate_zeros

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


@pytest.mark.parametrize("shape", [(), 5, (3, 5, 7), (64, 64, 64)])
@pytest.mark.parametrize("dtype", [np.uint8, np.float32, np.float64])
def test_allocated_arrays_begin_with_a_cache_line(shape, dtype):
    for _ in range(5):
        array, zeros = allocate(shape, dtype), allocate_zeros(shape, dtype)
        for one in (array, zeros):
            assert one.ctypes.data % LINE == 0
            assert one.dtype == dtype
            assert one.shape == np.empty(shape).shape
            assert one.flags.c_contiguous
            assert one.flags.writeable
        assert not zeros.any()


def test_the_work_space_of_a_solve_begins_with_cache_lines():
    engine = prepare(gallery.make("pool", 32).grid).engine.first
    arrays = [
        *engine._work,
        *(array for level in engine.cycle.levels for array in (level.r, level.x, level.z, level.gain)),
    ]
    assert all(array is None or array.ctypes.data % LINE == 0 for array in arrays)
