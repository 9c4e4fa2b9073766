"""Processes that run a program in a moment: forks of one that has loaded NumPy, SciPy and Numba, and nothing else.

Nothing of the package is in them, so that they import whichever copy of it their environment names. They end as forks
do: what is about the end of an interpreter needs a process of its own.
"""

import json
import os
import select
import signal
import subprocess
import sys
import tempfile

PROGRAM = """
import atexit, json, os, sys, tempfile, traceback, types
import numba, numpy, scipy.sparse.linalg

numba.njit(lambda x: x + 1)(1.0)  # what a first compilation sets up
assert not any(name.partition(".")[0] == "relaxon" for name in sys.modules)


def run(asked):
    for number, file in enumerate(asked["files"], 1):
        os.dup2(os.open(file, os.O_WRONLY), number)
    os.environ.clear()
    os.environ.update(asked["environment"])
    sys.path[:0] = asked["environment"]["PYTHONPATH"].split(os.pathsep)
    sys.dont_write_bytecode = "PYTHONDONTWRITEBYTECODE" in asked["environment"]
    tempfile.tempdir = None
    numba.core.config.reload_config()
    sys.modules["__main__"] = main = types.ModuleType("__main__")  # where what is pickled is looked for
    exec(asked["program"], vars(main))


for line in sys.stdin:
    asked = json.loads(line)
    child = os.fork()
    if child == 0:
        status = 1
        try:
            run(asked)
            status = 0
        except BaseException:
            traceback.print_exc()
        finally:
            atexit._run_exitfuncs()
            for file in (sys.stdout, sys.stderr):
                file.flush()
            os._exit(status)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""


WAIT = 120
"""Seconds after which a process that hangs is given up: the first ones may have to compile."""


class WarmProcess:
    """A process that has loaded what programs here begin with."""

    def __init__(self):
        kept = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-c", PROGRAM],
            env=kept,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def run(self, program, environment):
        """What a process prints that runs `program` in that environment, and in which nothing must fail or hang."""
        with tempfile.NamedTemporaryFile("r") as output, tempfile.NamedTemporaryFile("r") as errors:
            asked = {"program": program, "environment": environment, "files": [output.name, errors.name]}
            self._process.stdin.write(json.dumps(asked) + "\n")
            self._process.stdin.flush()
            if not select.select([self._process.stdout], [], [], WAIT)[0]:
                self._kill()
            status = self._process.stdout.readline()  # nothing where it hung
            assert status == "0\n", errors.read()
            return output.read()

    def close(self):
        """End it."""
        self._process.stdin.close()
        self._process.wait()

    def _kill(self):
        os.killpg(self._process.pid, signal.SIGKILL)
