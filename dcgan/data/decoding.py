"""Decode image files, in this process or ahead of time in other processes."""

import collections
import contextlib
import pickle
import queue
import signal
import subprocess
import sys
from collections.abc import Iterable, Iterator, Sequence
from concurrent import futures
from typing import NamedTuple

import numpy as np

from dcgan.data.images import ignore_pillow_warnings, load_image
from dcgan.util.errors import UserError


def image_shape(options: dict) -> tuple[int, int, int]:
    """(height, width, channels) of images by `load_image` with these options."""
    channels = 1 if options['grayscale'] else 3
    return options['resize_height'], options['resize_width'], channels


class Decoded(NamedTuple):
    """Images that have been decoded."""

    images: np.ndarray  # uint8 [n, h, w, c]; 0 where an image cannot be used
    failures: dict[int, str]  # {position: reason} of images that cannot be used
    notes: set[str]  # see open_image


def decode_images(
    jobs: Sequence[tuple[str, Sequence[int] | None]], options: dict
) -> Decoded:
    """Load the images of (path, box) pairs by `load_image` with these options."""
    images = np.empty((len(jobs), *image_shape(options)), np.uint8)
    failures, notes = {}, set()
    for position, (path, box) in enumerate(jobs):
        try:
            image = load_image(path, box=box, notes=notes, **options)
            images[position] = image.reshape(images.shape[1:])
        except UserError as error:
            images[position], failures[position] = 0, str(error)
    return Decoded(images, failures, notes)


class Decoders:
    """`count` processes that decode images, by `load_image` with these options."""

    def __init__(self, count: int, options: dict):
        self.count, self.options, self.processes = count, options, []
        self.threads = futures.ThreadPoolExecutor(count or 1)

    def map(self, batches: Iterable[Sequence]) -> Iterator[Decoded]:
        """Yield `decode_images` of each batch, in order, at most two per process ahead.

        Raises UserError if a process dies, OSError or MemoryError if decoding does.
        """
        if not self.processes:
            self.idle = queue.SimpleQueue()  # processes without work
            self.processes = [start_process() for _ in range(self.count)]
            for process in self.processes:
                self.idle.put(process)
        pending = collections.deque()
        for jobs in batches:
            if len(pending) == 2 * self.count:
                yield pending.popleft().result()
            task = jobs, self.options
            pending.append(self.threads.submit(decode_in_process, self.idle, task))
        while pending:
            yield pending.popleft().result()

    def close(self) -> None:
        """End the processes and wait for them. The next map() starts new ones."""
        while self.processes:
            process = self.processes.pop()
            process.kill()  # it holds nothing that could be lost
            process.wait()

    __del__ = close


def start_process() -> subprocess.Popen:
    """A process that runs `serve`, out of reach of signals to the process group."""
    code = f'import sys; sys.path = {[*map(str, sys.path)]!a}\n'
    code += 'from dcgan.data.decoding import serve; serve()'
    pipes = {'stdin': subprocess.PIPE, 'stdout': subprocess.PIPE, 'bufsize': 0}
    command = [sys.executable, '-c', code]
    return subprocess.Popen(command, start_new_session=True, **pipes)


def decode_in_process(idle, task):
    """decode_images(*task) in one of the idle processes. UserError if it dies."""
    process = idle.get()
    try:
        with open(process.stdin.fileno(), 'wb', closefd=False) as file:
            pickle.dump(task, file)
        with open(process.stdout.fileno(), 'rb', closefd=False) as file:
            decoded = pickle.load(file)
    except (OSError, EOFError, pickle.UnpicklingError) as error:
        process.kill()  # it may be stuck in the middle of an answer
        ended = f'a decoding process ended with exit code {process.wait()}'
        advice = 'see its output above; without any, memory was short: lower'
        raise UserError(f'{ended}: {advice} --num_workers') from error
    finally:
        idle.put(process)
    if isinstance(decoded, Exception):
        raise decoded
    return decoded


def serve() -> None:
    """Read tasks from stdin until it ends; write their results, or exceptions."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    ignore_pillow_warnings()
    with contextlib.suppress(EOFError, BrokenPipeError):
        while True:
            task = pickle.load(sys.stdin.buffer)
            try:
                decoded = decode_images(*task)
            except (OSError, MemoryError) as error:
                decoded = error
            with open(1, 'wb', closefd=False) as file:
                pickle.dump(decoded, file)
