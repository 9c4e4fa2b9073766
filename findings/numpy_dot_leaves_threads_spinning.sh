#!/usr/bin/env bash
# NumPy 2.4.6 with its OpenBLAS: after a dot product of more than 10,000 numbers, other threads spin for a while.
#
# Input: x @ x for vectors of 10,000 and 12,000 float64 numbers, default options, two or more processors. Expected by
# most callers: once the product has returned, nothing of it uses a processor. Seen: after the longer one, OpenBLAS's
# threads look for more work, each on a processor of its own, for tens of milliseconds. Code that shares its work among
# threads of its own right afterwards waits for them: a sparse solve of 14 ms with two threads on two processors took
# 25 to 37 ms after x @ b. OPENBLAS_NUM_THREADS=1, set before NumPy is imported, prevents it. Cause: OpenBLAS divides
# ddot from 10,001 numbers on (kernel/x86_64/ddot.c) and lets its threads wait actively (driver/others/blas_server.c,
# THREAD_TIMEOUT). Exit status 0 while that is so, 1 where it has changed.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check numpy==2.4.6
cd "$folder"
cat > measure.py <<'PY'
import statistics
import sys
import time

import numpy as np


def seconds_used_while_asleep(n: int) -> float:
    """Return the processor time that this process takes in 20 ms of sleep after a dot product."""
    x = np.ones(n)
    time.sleep(0.5)
    x @ x
    before = time.process_time()
    time.sleep(0.02)
    return time.process_time() - before


print(" ".join(f"{statistics.median(seconds_used_while_asleep(n) for _ in range(9)):.4f}" for n in map(int, sys.argv[1:])))
PY
read -r short long < <("$folder/venv/bin/python" measure.py 10000 12000)
read -r single < <(OPENBLAS_NUM_THREADS=1 "$folder/venv/bin/python" measure.py 12000)
"$folder/venv/bin/python" - "$short" "$long" "$single" <<'PY'
import os
import sys

import numpy as np

short, long, single = (1e3 * float(one) for one in sys.argv[1:])
print(f"numpy {np.__version__}, {os.cpu_count()} processors; processor time in 20 ms asleep after x @ x:")
print(f"  10,000 numbers {short:.1f} ms, 12,000 numbers {long:.1f} ms, with OPENBLAS_NUM_THREADS=1 {single:.1f} ms")
if not (short < 3 and single < 3 and long > 5):
    raise SystemExit("changed: expected less than 3, more than 5, less than 3 ms")
print("as described: threads spin after the longer product, unless OpenBLAS has one")
PY
