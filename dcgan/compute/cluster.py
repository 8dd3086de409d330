"""Find, by TF_CONFIG, or start the processes that train one model; check them."""

import contextlib
import glob
import itertools
import json
import os
import re
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

from dcgan.util.cores import usable_cores
from dcgan.util.errors import UserError

CHIEFS, WORKER = ('chief', 'master'), 'worker'
# the start of an HTTP/2 connection: a gRPC server answers it with its settings
HTTP2_GREETING = b'PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\4\0\0\0\0\0'
NVIDIA_GPUS = '/proc/driver/nvidia/gpus/*'  # a folder for each
SECONDS_TO_END = 20  # for local processes to end by themselves, after training


class Task(NamedTuple):
    """A process of the cluster."""

    job: str  # chief, master or worker
    number: int  # in its job
    address: str  # host:port

    def __str__(self):
        return f'{self.job} {self.number} ({self.address})'


class Cluster(NamedTuple):
    """The processes that train together."""

    tasks: list[Task]  # the chief first
    index: int  # of this process


def read_cluster(text: str) -> Cluster | None:
    """Parse a TF_CONFIG: None for fewer than two processes; UserError if invalid."""
    try:
        settings = json.loads(text or '{}')
        cluster = settings.get('cluster') or {}
        jobs = {job: list(map(str, cluster[job])) for job in cluster}
        task = settings.get('task') or {}
        own = task.get('type'), int(task.get('index', 0))
    except (ValueError, TypeError, AttributeError) as error:
        raise UserError(
            'TF_CONFIG: give {"cluster": {"worker": ["host1:2222", "host2:2222"]}, '
            f'"task": {{"type": "worker", "index": 0}}}} ({error})'
        ) from error
    others = {*jobs, own[0] or WORKER} - {*CHIEFS, WORKER}
    if others:
        raise UserError(
            f'TF_CONFIG: has the job {min(others)}; only chief and worker can train, '
            'synchronously: leave out others'
        )
    tasks = [
        Task(job, number, address)
        for job in (*CHIEFS, WORKER)
        for number, address in enumerate(jobs.get(job, []))
    ]
    if len(tasks) < 2:
        return None
    wrong = [t.address for t in tasks if not re.fullmatch(r'\S+:\d+', t.address)]
    if wrong:
        raise UserError(f'TF_CONFIG: {wrong[0]!r} is no address; give host:port')
    names = [(t.job, t.number) for t in tasks]
    if own not in names:
        raise UserError(
            f'TF_CONFIG: the task {own[0]} {own[1]} is not in the cluster, which has '
            f'{", ".join(f"{job} {number}" for job, number in names)}'
        )
    return Cluster(tasks, names.index(own))


def tf_config(tasks: list[Task], index: int) -> str:
    """The TF_CONFIG of a task."""
    own = {'type': tasks[index].job, 'index': tasks[index].number}
    return json.dumps({'cluster': addresses(tasks), 'task': own})


def addresses(tasks: list[Task]) -> dict[str, list[str]]:
    """The addresses of each job."""
    jobs = dict.fromkeys(task.job for task in tasks)
    return {job: [t.address for t in tasks if t.job == job] for job in jobs}


class LocalWorkers:
    """Processes that train together on this machine; this one is the chief."""

    def __init__(self, count: int):
        """Plan `count` processes in all, each on a GPU if there are any.

        Sets CUDA_VISIBLE_DEVICES or TF_NUM_INTRAOP_THREADS; UserError for too few GPUs.
        """
        self._gpus = gpus = visible_gpus()
        if 0 < len(gpus) < count:
            raise UserError(
                f'--workers {count}: each needs a GPU, and there are {len(gpus)}; give '
                'fewer, or hide them, by CUDA_VISIBLE_DEVICES=-1'
            )
        if gpus:
            os.environ['CUDA_VISIBLE_DEVICES'] = gpus[0]
        else:
            threads = max(1, usable_cores() // count)
            os.environ.setdefault('TF_NUM_INTRAOP_THREADS', str(threads))
        self.cluster = Cluster(local_tasks(count), 0)
        self.processes: list[subprocess.Popen] = []

    def start(self, arguments: list[str]) -> None:
        """Start the other processes: Python with these arguments."""
        streams = {'stdin': subprocess.DEVNULL, 'stdout': subprocess.DEVNULL}
        for index in range(1, len(self.cluster.tasks)):
            config = tf_config(self.cluster.tasks, index)
            # without progress bars: the chief's are enough
            environment = {**os.environ, 'TF_CONFIG': config, 'TQDM_DISABLE': '1'}
            if self._gpus:
                environment['CUDA_VISIBLE_DEVICES'] = self._gpus[index]
            process = subprocess.Popen(
                [sys.executable, *arguments], env=environment, **streams
            )
            self.processes.append(process)

    def check(self) -> None:
        """Raise UserError if another process has ended."""
        for task, process in zip(self.cluster.tasks[1:], self.processes):
            if process.poll() is not None:
                raise UserError(f'{task} has ended, see its message')

    def __exit__(self, kind, error, traceback):
        """Wait SECONDS_TO_END for the others, then kill them; after errors at once."""
        end = time.monotonic() + (0 if kind else SECONDS_TO_END)
        for process in self.processes:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(max(0, end - time.monotonic()))
            process.kill()
            process.wait()


def visible_gpus() -> list[str]:
    """The NVIDIA GPUs that this process may use, as CUDA_VISIBLE_DEVICES names them."""
    given = os.environ.get('CUDA_VISIBLE_DEVICES')
    if given is not None:
        names = [name.strip() for name in given.split(',') if name.strip()]
        return list(itertools.takewhile(lambda name: name != '-1', names))
    return [str(i) for i in range(len(glob.glob(NVIDIA_GPUS)))]


def local_tasks(count: int) -> list[Task]:
    """`count` workers on this machine, at ports that are free now."""
    with contextlib.ExitStack() as stack:
        tasks = []
        for number in range(count):
            one = stack.enter_context(socket.create_server(('127.0.0.1', 0)))
            address = f'127.0.0.1:{one.getsockname()[1]}'
            tasks.append(Task(WORKER, number, address))
    return tasks


def answers(address: str, seconds: float = 2.0) -> bool:
    """Whether a gRPC server answers at host:port; not if its process is stopped."""
    host, port = address.rsplit(':', 1)
    try:
        with socket.create_connection((host.strip('[]'), int(port)), seconds) as one:
            one.settimeout(seconds)
            one.sendall(HTTP2_GREETING)
            return bool(one.recv(1))
    except OSError:
        return False


def silent(tasks: list[Task]) -> list[Task]:
    """The tasks that do not answer."""
    with ThreadPoolExecutor(len(tasks)) as threads:
        answering = threads.map(answers, [task.address for task in tasks])
        return [task for task, answer in zip(tasks, answering) if not answer]


def wait_for(tasks: list[Task], seconds: float, check: Callable[[], None]) -> None:
    """Call `check` until all tasks answer; UserError after `seconds`."""
    end = time.monotonic() + seconds
    if waiting := silent(tasks):
        print(f' [*] Waiting for {", ".join(map(str, waiting))}')
    while waiting:
        if time.monotonic() > end:
            names = ', '.join(map(str, waiting))
            raise UserError(
                f'{names}: no answer within {seconds:g} s; start all workers, with the '
                'same addresses, within --worker_timeout seconds'
            )
        check()
        time.sleep(0.2)
        waiting = silent(tasks)
