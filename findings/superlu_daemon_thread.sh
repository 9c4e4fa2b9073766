#!/usr/bin/env bash
# A daemon thread that has made a SuperLU factor turns a successful Python program into exit status 120.
#
# SciPy 1.17.1 (scipy.sparse.linalg.splu), CPython on Linux. A factor is made in a daemon thread that is still there at
# the interpreter's end, as worker threads usually are; nothing else is done with it. All output is written, the last
# line of the program is reached, and yet Python reports
#     Exception ignored in: <_io.TextIOWrapper name='<stdout>' …>
#     TypeError: an integer is required
# and exits with 120, the status for output that could not be flushed. The same program whose thread is joined before
# the end exits with 0. A competent guess looks for the fault in its own output.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check numpy==2.4.6 scipy==1.17.1

cat >"$folder/factor.py" <<'PY'
import queue
import sys
import threading

import numpy as np
from scipy import sparse
from scipy.sparse.linalg import splu

matrix = sparse.csc_array(sparse.eye_array(50) * 2.0)
tasks, answers = queue.SimpleQueue(), queue.SimpleQueue()


def work():
    while (task := tasks.get()) is not None:
        answers.put(task())


thread = threading.Thread(target=work, daemon=True)
thread.start()
tasks.put(lambda: splu(matrix))
print("sum", answers.get().solve(np.ones(50)).sum())
if sys.argv[1] == "joined":
    tasks.put(None)
    thread.join()
print("end")
PY

"$folder/venv/bin/python" -c 'import scipy, sys; print("SciPy", scipy.__version__, "Python", sys.version.split()[0])'
run() { # how the program ends, its output in $folder/out
  local status=0
  "$folder/venv/bin/python" "$folder/factor.py" "$1" >"$folder/out" 2>"$folder/err" || status=$?
  echo "$1: status $status, last line '$(tail -1 "$folder/out")', standard error '$(tail -1 "$folder/err")'" >&2
  echo "$status"
}
joined=$(run joined)
running=$(run running)
[ "$joined" = 0 ] && [ "$running" = 120 ] && [ "$(tail -1 "$folder/out")" = end ] &&
  grep -q "TypeError: an integer is required" "$folder/err" || { echo "no longer so" >&2; exit 1; }
