#!/usr/bin/env bash
# A factorisation by rslab in a forked process waits for ever where its parent has made one before.
#
# rslab 1.7.0, numpy 2.4.6, scipy 1.17.1, CPython on Linux. rslab keeps a pool of threads for each number of threads
# that it is asked for. A fork takes the pool's handle along and leaves its threads behind, so that the child waits:
# multiprocessing's "fork" (the default of Linux up to Python 3.13), gunicorn's workers and PyTorch's loaders do that.
# A number of threads that the parent has not used gets a pool of its own and works, and as factors have the same bits
# at any number, asking for one thread more in the child is a way around.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check numpy==2.4.6 scipy==1.17.1 rslab==1.7.0

cat >"$folder/fork.py" <<'PY'
import os
import signal
import time

import numpy as np
import rslab
from scipy import sparse

line = sparse.diags_array([-1.0, 2.0, -1.0], offsets=[-1, 0, 1], shape=(60, 60))
one = sparse.eye_array(60)
a = sparse.csc_matrix(sparse.kron(line, one) + sparse.kron(one, line))
b = np.ones(a.shape[0])
x = rslab.ldlt(a, threads=2).solve(b)


def outcome(threads, seconds=10.0):
    """What becomes of a factorisation in a forked process."""
    child = os.fork()
    if child == 0:
        os._exit(0 if np.array_equal(rslab.ldlt(a, threads=threads).solve(b), x) else 1)
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        ended, status = os.waitpid(child, os.WNOHANG)
        if ended:
            return "the same bits" if status == 0 else f"status {status}"
        time.sleep(0.05)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return f"nothing in {seconds:g} s"


known, fresh = outcome(2), outcome(3)
print("in the child, with the parent's 2 threads:", known)
print("in the child, with 3 threads:", fresh)
shown = known.startswith("nothing") and fresh == "the same bits"
print("as described" if shown else "no longer so")
raise SystemExit(0 if shown else 1)
PY
"$folder/venv/bin/python" "$folder/fork.py"
