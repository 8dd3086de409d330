"""Decode image files, in this process or ahead of time in other processes."""

import collections
import contextlib
import os
import pickle
import queue
import subprocess
import sys
import weakref
from collections.abc import Iterable, Iterator, Sequence
from concurrent import futures
from pathlib import Path
from typing import NamedTuple

import numpy as np

from dcgan.data.images import ignore_pillow_warnings, load_image
from dcgan.util.errors import UserError

# It finds modules in the project, not the current folder. The multiprocessing module
# is not used: its processes would import the main script, and with it TensorFlow.
WORKER_PROGRAM = f"""
import sys
sys.path[0] = {str(Path(__file__).resolve().parents[2])!r}
from dcgan.data.decoding import serve_decoding
serve_decoding()
"""


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
        self.count, self.options = count, options
        self.processes, self.threads = [], futures.ThreadPoolExecutor(count or 1)
        weakref.finalize(self, end_processes, self.processes)  # also without close()

    def map(self, batches: Iterable[Sequence]) -> Iterator[Decoded]:
        """Yield `decode_images` of each batch, in order, at most two per process ahead.

        Raises UserError if a process dies, OSError or MemoryError if decoding does.
        """
        if not self.processes:
            self.processes += [start_process() for _ in range(self.count)]
            self.idle = queue.SimpleQueue()
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
        end_processes(self.processes)


def start_process():
    return subprocess.Popen(
        [sys.executable, '-c', WORKER_PROGRAM],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        start_new_session=True,  # so that Ctrl-C reaches only the main process
    )


def end_processes(processes):
    while processes:
        process = processes.pop()
        process.kill()  # it holds nothing that could be lost
        wait_for(process)


def wait_for(process):
    with contextlib.suppress(OSError):  # flushes, which fails: the process is dead
        process.stdin.close()
    return process.wait()


def decode_in_process(idle, task):
    """decode_images(*task) in one of the idle processes. UserError if it dies."""
    process = idle.get()
    try:
        pickle.dump(task, process.stdin)
        process.stdin.flush()
        decoded = pickle.load(process.stdout)
    except (OSError, EOFError, ValueError, pickle.UnpicklingError) as error:
        raise UserError(
            f'a decoding process ended with exit code {wait_for(process)}: see its '
            'output above; if there is none, it probably ran out of memory: lower '
            '--num_workers'
        ) from error
    finally:
        idle.put(process)
    if isinstance(decoded, Exception):
        raise decoded
    return decoded


def serve_decoding() -> None:
    """Run a decoding process until stdin is closed.

    It reads arguments of `decode_images` as pickles, and writes results or exceptions.
    """
    ignore_pillow_warnings()
    with contextlib.suppress(EOFError, BrokenPipeError):
        while True:
            task = pickle.load(sys.stdin.buffer)
            try:
                decoded = decode_images(*task)
            except (OSError, MemoryError) as error:
                decoded = error
            pickle.dump(decoded, sys.stdout.buffer)
            sys.stdout.buffer.flush()
    os._exit(0)  # skips the last flush of stdout, whose reader may have ended
