"""Run scripts in processes that fork from one in which TensorFlow is imported."""

import atexit
import multiprocessing
import os
import runpy
import subprocess
import sys
import tempfile
from multiprocessing import forkserver
from pathlib import Path
from unittest import mock

TESTS = Path(__file__).parent
PROCESSES = multiprocessing.get_context('forkserver')
PROCESSES.set_forkserver_preload(['main', 'forked'])


def start_server():
    """Start the process that forks, which imports TensorFlow, unless there is one."""
    found = os.pathsep.join([str(TESTS.parent), str(TESTS)])
    with mock.patch.dict(os.environ, PYTHONPATH=found):
        forkserver.ensure_running()


class Forked:
    """A script of the project that runs in a forked process.

    Use it as a context manager to kill the process in the end.
    """

    def __init__(self, script, *args, cwd, environment):
        self.args = [*map(str, [script, *args])]
        self._folder = tempfile.TemporaryDirectory()
        self._outputs = [Path(self._folder.name, name) for name in ('out', 'err')]
        for path in self._outputs:
            path.touch()
        self._process = PROCESSES.Process(
            target=_run, args=(self.args, str(cwd), environment, self._outputs)
        )
        start_server()
        self._process.start()
        self.pid = self._process.pid

    def output(self):
        """What it has printed to stdout so far."""
        return self._outputs[0].read_text(errors='replace')

    @property
    def is_alive(self):
        return self._process.is_alive()

    def send_signal(self, number):
        os.kill(self.pid, number)

    def wait(self, timeout=200):
        """Wait for its end; returns what subprocess.run does."""
        self._process.join(timeout)
        if self.is_alive:
            self._process.kill()
            raise TimeoutError(f'{self.args} runs for {timeout} s: {self.output()}')
        out, err = (path.read_text(errors='replace') for path in self._outputs)
        status = self._process.exitcode
        return subprocess.CompletedProcess(self.args, status, out, err)

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self._process.kill()
        self._process.join()
        self._folder.cleanup()


def _run(args, cwd, environment, outputs):
    for number, path in enumerate(outputs, 1):
        os.dup2(os.open(path, os.O_WRONLY | os.O_APPEND), number)
    os.chdir(cwd)
    os.environ.clear()
    os.environ.update(environment)
    sys.argv = args
    try:
        runpy.run_path(args[0], run_name='__main__')
    finally:
        atexit._run_exitfuncs()
