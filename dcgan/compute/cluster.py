"""Find, by TF_CONFIG, or start the processes that train one model; check them."""

import contextlib
import ipaddress
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
from dcgan.util.errors import UserError, printable, short_reason
from dcgan.util.files import json_digest, read_errors
from dcgan.util.gpus import visible_gpus
from dcgan.util.output import print_line

CHIEFS, WORKER = ('chief', 'master'), 'worker'
EXAMPLE = {
    'cluster': {'worker': ['host1:2222', 'host2:2222']},
    'task': {'type': 'worker', 'index': 0},
}
ADDRESS = re.compile(r'(?:\[([\da-f:.]+)\]|([\w.-]+)):(\d{1,5})', re.ASCII | re.I)
THIS_HOST = re.compile(r'^(127\.[\d.]+|0\.0\.0\.0|::1?)$')  # each is localhost
# an HTTP/2 connection, on which TensorFlow's server is asked for its name
QUESTION = (
    b'PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\4\0\0\0\0\0\0\0\x86\1\4\0\0\0\1'
    b'\0\7:method\4POST\0\7:scheme\4http\0\x0a:authority\6worker\0\2te\x08trailers'
    b'\0\5:path\x23/tensorflow.WorkerService/GetStatus'
    b'\0\x0ccontent-type\x10application/grpc\0\0\5\0\1\0\0\0\1\0\0\0\0\0'
)
NAME = re.compile(rb'/job:\w+/replica:0/task:\d+(?=/)')
# what decides: a name, the end of the reply, a start that is not of HTTP/2, its length
ENOUGH = rb'%s|[\0\1][\1\5]\0{3}\x01|\A.{3}[^\4]|.{65536}' % NAME.pattern
SECONDS_TO_END = 20  # for local processes to end by themselves, after training


class Task(NamedTuple):
    """A process of the cluster."""

    job: str  # chief, master or worker
    number: int  # in its job
    address: str  # host:port
    tf_job: str  # its job for TensorFlow, with a digest of the cluster's addresses

    @property
    def tf_name(self) -> str:
        """TensorFlow's name of this process."""
        return f'/job:{self.tf_job}/replica:0/task:{self.number}'

    def __str__(self):
        return f'{self.job} {self.number} ({self.address})'


class Cluster(NamedTuple):
    """The processes that train together."""

    tasks: list[Task]  # the chief first
    index: int  # of this process


@read_errors('TF_CONFIG', advice=f'give {json.dumps(EXAMPLE)}')
def read_cluster(text: str) -> Cluster | None:
    """Parse a TF_CONFIG: None for a process that is alone; UserError if invalid."""
    settings = json.loads(text.strip() or '{}')
    cluster, task = (settings.get(name) or {} for name in EXAMPLE)
    jobs = {job: [*map(str, found)] for job, found in cluster.items() if found}
    # the index by its text, because int() would round
    own = str(task.get('type') or ''), int(str(task.get('index', 0)))
    others = {*jobs, own[0] or WORKER} - {*CHIEFS, WORKER}
    if others:
        problem = f'has the job {printable(min(others)):.40}'
        advice = 'leave out others than chief and worker, which are in lower case'
        raise UserError(f'TF_CONFIG: {problem}; training is synchronous: {advice}')
    if sum(map(len, jobs.values())) < 2 and own[1] == 0:
        return None
    tasks = list_tasks({job: jobs[job] for job in (*CHIEFS, WORKER) if job in jobs})
    names = [(t.job, t.number) for t in tasks]
    if own not in names:
        there = ', '.join(f'{job} {number}' for job, number in names) or 'no tasks'
        problem = f'the task {own[0] or None} {own[1]} is not in the cluster'
        raise UserError(f'TF_CONFIG: {problem}, which has {there}')
    return Cluster(tasks, names.index(own))


def list_tasks(jobs: dict[str, list[str]]) -> list[Task]:
    """The tasks at the addresses of each job; UserError if one is there twice."""
    tasks = [(job, i, address) for job in jobs for i, address in enumerate(jobs[job])]
    places = [host_and_port(address) for _, _, address in tasks]
    places = [(THIS_HOST.sub('localhost', host), port) for host, port in places]
    for task, place in zip(tasks, places):
        if (first := tasks[places.index(place)]) != task:
            both = f'{first[2]} and {task[2]} are one address'
            raise UserError(f'TF_CONFIG: {both}; give each process its own port')
    digest = json_digest([*jobs, *places])
    return [Task(*task, f'{task[0]}_{digest}') for task in tasks]


def host_and_port(address: str) -> tuple[str, int]:
    """The parts of host:port. An IPv6 address is in brackets, which are removed."""
    found = ADDRESS.fullmatch(address)
    if not found or not 0 < int(found[3]) < 1 << 16:
        problem = f'TF_CONFIG: {address!r:.80} is no address'
        advice = 'as host1:2222 or [fd00::1]:2222, ports from 1 to 65535'
        raise UserError(f'{problem}; give host:port, {advice}')
    host = found[2] or str(ipaddress.IPv6Address(found[1]))
    return host.lower(), int(found[3])


def tf_config(tasks: list[Task], index: int) -> str:
    """The TF_CONFIG of a task."""
    own, jobs = {'type': tasks[index].job, 'index': tasks[index].number}, {}
    for task in tasks:
        jobs.setdefault(task.job, []).append(task.address)
    return json.dumps({'cluster': jobs, 'task': own})


class LocalWorkers:
    """Processes that train together on this machine; this one is the chief."""

    def __init__(self, count: int):
        """Plan `count` processes in all, each on a GPU if there are any.

        Sets CUDA_VISIBLE_DEVICES or TF_NUM_INTRAOP_THREADS; UserError for too few GPUs.
        """
        self._gpus = gpus = visible_gpus()
        if 0 < len(gpus) < count:
            advice = 'give fewer, or hide them, by CUDA_VISIBLE_DEVICES=-1'
            problem = f'each needs a GPU, and there are {len(gpus)}'
            raise UserError(f'--workers {count}: {problem}; {advice}')
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
        command = [sys.executable, *arguments]
        for index in range(1, len(self.cluster.tasks)):
            config = tf_config(self.cluster.tasks, index)
            # without progress bars: the chief's are enough
            environment = {**os.environ, 'TF_CONFIG': config, 'TQDM_DISABLE': '1'}
            if self._gpus:
                environment['CUDA_VISIBLE_DEVICES'] = self._gpus[index]
            self.processes.append(subprocess.Popen(command, env=environment, **streams))

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


def local_tasks(count: int) -> list[Task]:
    """`count` workers on this machine, at ports that are free now."""
    with contextlib.ExitStack() as stack:
        servers = [socket.create_server(('127.0.0.1', 0)) for _ in range(count)]
        ports = [stack.enter_context(one).getsockname()[1] for one in servers]
    return list_tasks({WORKER: [f'127.0.0.1:{port}' for port in ports]})


def bypass_proxies(tasks: list[Task], environ=os.environ) -> None:
    """Let gRPC connect to the hosts: it sends even 127.0.0.1 through a proxy."""
    kept = environ.get('no_grpc_proxy', environ.get('no_proxy', ''))
    hosts = [host_and_port(task.address)[0] for task in tasks]
    # gRPC compares them as they are given
    hosts += [task.address.rpartition(':')[0].strip('[]') for task in tasks]
    environ['no_grpc_proxy'] = ','.join(filter(None, [kept, *dict.fromkeys(hosts)]))
    environ.pop('GRPC_ADDRESS_HTTP_PROXY', None)  # it has no exceptions


def absence(task: Task, seconds: float = 2.0) -> str:
    """Why TensorFlow's server of this task does not answer; '' if it does."""
    end, reply = time.monotonic() + seconds, b''
    try:
        with socket.create_connection(host_and_port(task.address), seconds) as one:
            one.sendall(QUESTION)
            while not re.search(ENOUGH, reply, re.DOTALL):
                one.settimeout(max(1e-3, end - time.monotonic()))
                if not (more := one.recv(4096)):
                    break
                reply += more
    except (OSError, UnicodeError) as error:  # UnicodeError: no name can be like that
        return short_reason(error)
    if not (name := NAME.search(reply)):
        return 'something else answers, not TensorFlow'
    is_task = name[0].decode() == task.tf_name
    return '' if is_task else 'a worker of another training or TF_CONFIG answers'


def silent(tasks: list[Task]) -> list[str]:
    """The tasks that do not answer, each with the reason."""
    with ThreadPoolExecutor(len(tasks)) as threads:
        reasons = zip(tasks, threads.map(absence, tasks))
        return [f'{task}: {reason}' for task, reason in reasons if reason]


def wait_for(tasks: list[Task], seconds: float, check: Callable[[], None]) -> None:
    """Call `check` until all tasks answer; UserError after `seconds`."""
    end, told = time.monotonic() + seconds, set()
    while waiting := silent(tasks):
        if new := [text for text in waiting if text not in told]:
            print_line(f' [*] Waiting for {", ".join(new)}')
            told.update(new)
        if time.monotonic() > end:
            problem = f'no answer within {seconds:g} s from {", ".join(waiting)}'
            advice = 'with the same addresses, within --worker_timeout seconds'
            raise UserError(f'{problem}; start all workers, {advice}')
        check()
        time.sleep(0.2)
