"""Large arrays come from memory that is used again, and never overlap."""

import os
import random
import sys
import threading

import numpy as np
import pytest

from relaxon.solvers.kernels import large_arrays
from relaxon.solvers.kernels.large_arrays import CHUNK, KEPT, LEAST, Pool, empty, zeros

pytestmark = pytest.mark.skipif(large_arrays.LARGE_PAGES is None, reason="NumPy's arrays on this system")


def cut(pool, size):
    return pool.cut((size,), np.dtype(np.uint8), size)


def test_arrays_that_live_together_do_not_overlap_and_all_memory_comes_back():
    pool, draw = Pool(), random.Random(0)
    living = []
    for number in range(600):
        array = cut(pool, draw.choice((LEAST, 100_001, 1 << 20, 3_000_000)) + draw.randrange(99))
        array[:] = number % 251
        living.append((number % 251, array))
        while sum(len(one) for _, one in living) > 90_000_000:
            value, array = living.pop(draw.randrange(len(living)))
            assert (array == value).all()
        del array
    for value, array in living:
        assert (array == value).all()
        del array
    assert pool.reserved_bytes - pool.free_bytes >= sum(len(array) for _, array in living)
    living.clear()
    assert pool.free_bytes == pool.reserved_bytes <= KEPT + CHUNK
    pool.release()
    assert pool.reserved_bytes == 0


def test_memory_is_used_again():
    pool = Pool()
    for _ in range(100):
        array = cut(pool, 1_500_000)
        view = array[1:]
        del array
        view[:] = 1  # a view keeps the memory
        assert pool.reserved_bytes <= CHUNK
        assert pool.free_bytes <= pool.reserved_bytes - 1_500_000
        del view


def test_an_array_larger_than_a_chunk_has_one_of_its_own():
    pool = Pool()
    array = cut(pool, CHUNK + 1)
    array[-1] = 1
    assert CHUNK < pool.reserved_bytes < CHUNK + (1 << 21)


@pytest.mark.parametrize("shape", [10, 100_000, (3, 70_000), np.uint32(90_000), (np.int64(2), 50_000)])
@pytest.mark.parametrize("dtype", [np.float64, np.float32, np.uint32, np.uint8])
def test_arrays_are_as_those_of_numpy(shape, dtype):
    ours, theirs = empty(shape, dtype), np.empty(shape, dtype)
    ours[...] = 7
    assert ours.shape == theirs.shape
    assert ours.dtype == theirs.dtype
    assert ours.flags.c_contiguous
    assert ours.flags.writeable
    assert ours.nbytes < LEAST or ours.ctypes.data % 64 == 0
    del ours
    assert not zeros(shape, dtype).any()


def test_threads_may_cut_and_free_at_once():
    pool, wrong = Pool(), []

    def use(value):
        kept = []
        for _ in range(200):
            array = cut(pool, 200_000)
            array[:] = value
            kept = [*kept[-5:], array]
            wrong.extend(one for one in kept if not (one == value).all())

    threads = [threading.Thread(target=use, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
    assert pool.free_bytes == pool.reserved_bytes


@pytest.mark.skipif(sys.platform != "linux", reason="forks")
def test_a_fork_writes_to_memory_of_its_own():
    array = empty(100_000)
    array[:] = 1
    child = os.fork()
    if child == 0:
        array[:] = 2
        other = empty(100_000)
        other[:] = 3
        os._exit(0 if (array == 2).all() and large_arrays._pool.reserved_bytes == CHUNK - 64 else 1)
    assert os.waitpid(child, 0)[1] == 0
    assert (array == 1).all()
