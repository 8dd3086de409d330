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

# The program of a decoding process. It searches the folder of the project for modules,
# instead of the current folder, which `-c` puts there.
WORKER_PROGRAM = f"""
import sys
sys.path[0] = {str(Path(__file__).resolve().parents[2])!r}
from dcgan.data.decoding import serve_decoding
serve_decoding()
"""


def image_shape(options: dict) -> tuple[int, int, int]:
    """(height, width, channels) of the images that `load_image` makes with `options`.

    options  keyword arguments of `load_image`
    """
    channels = 1 if options['grayscale'] else 3
    return options['resize_height'], options['resize_width'], channels


class Decoded(NamedTuple):
    """Images that have been decoded, as `decode_images` returns them."""

    images: np.ndarray  # uint8 [n, h, w, c]; 0 where an image cannot be used
    failures: dict[int, str]  # {position: reason} of images that cannot be used
    notes: set[str]  # see open_image


def decode_images(
    jobs: Sequence[tuple[str, Sequence[int] | None]], options: dict
) -> Decoded:
    """Load images.

    jobs     (path, box) pairs; `load_image` explains the box
    options  keyword arguments of `load_image` for all of them
    """
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
    """Processes that decode images, until close() or until this process ends.

    A thread for each process waits for its results. The multiprocessing module is not
    used, because its processes would import the main script, and with it TensorFlow.

    count    number of processes; they start when map() is called first
    options  keyword arguments of `load_image`
    """

    def __init__(self, count: int, options: dict):
        self.count, self.options = count, options
        self.processes = []

    def map(self, batches: Iterable[Sequence]) -> Iterator[Decoded]:
        """Yield decode_images(jobs, options) for each batch of jobs, in order.

        Starts the processes if they are not running. Reads ahead by at most two batches
        for each process, counting those that are decoded but not yet yielded.

        Raises UserError if a process dies, and OSError or MemoryError if decoding does.
        """
        if not self.processes:
            self.idle = queue.SimpleQueue()
            self.processes = [self._start() for _ in range(self.count)]
            self.threads = futures.ThreadPoolExecutor(self.count)
            # also runs if this object is garbage-collected without close()
            self._end = weakref.finalize(
                self, end_workers, self.processes, self.threads
            )
        pending = collections.deque()
        for jobs in batches:
            if len(pending) == 2 * self.count:
                yield pending.popleft().result()
            pending.append(self.threads.submit(decode_in_process, self.idle, jobs))
        while pending:
            yield pending.popleft().result()

    def close(self) -> None:
        """End the processes and wait for them. The next map() starts new ones."""
        if self.processes:
            self._end()
            self.processes = []

    def _start(self):
        process = subprocess.Popen(
            [sys.executable, '-c', WORKER_PROGRAM],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            start_new_session=True,  # so that Ctrl-C reaches only the main process
        )
        pickle.dump(self.options, process.stdin)
        self.idle.put(process)
        return process


def decode_in_process(idle, jobs):
    """Decode a batch in one of the idle processes; returns it Decoded.

    Raises the exception that the process raised, or UserError if the process died.
    """
    process = idle.get()
    try:
        pickle.dump(jobs, process.stdin)
        process.stdin.flush()
        decoded = pickle.load(process.stdout)
    except (OSError, EOFError, ValueError, pickle.UnpicklingError) as error:
        with contextlib.suppress(OSError):
            process.stdin.close()  # flushes, which fails: the process has died
        raise UserError(
            f'a decoding process ended with exit code {process.wait()}: see its output '
            'above; if there is none, it probably ran out of memory: lower '
            '--num_workers'
        ) from error
    finally:
        idle.put(process)
    if isinstance(decoded, Exception):
        raise decoded
    return decoded


def end_workers(processes, threads):
    """Kill the processes, wait until they have ended, and close their pipes."""
    for process in processes:
        process.kill()  # it holds nothing that could be lost
    # do not wait: the garbage collector may call this function in one of the threads
    threads.shutdown(wait=False, cancel_futures=True)
    for process in processes:
        process.wait()
        process.stdout.close()
        with contextlib.suppress(OSError):  # flushes, which fails: the process is dead
            process.stdin.close()


def serve_decoding() -> None:
    """Run a decoding process: decode the batches from stdin until stdin is closed.

    Reads pickles: the options of `load_image`, then a list of jobs for each batch.
    Writes the result of `decode_images`, or the exception, for each batch to stdout.
    """
    ignore_pillow_warnings()
    with contextlib.suppress(EOFError, BrokenPipeError):
        options = pickle.load(sys.stdin.buffer)
        while True:
            jobs = pickle.load(sys.stdin.buffer)
            try:
                decoded = decode_images(jobs, options)
            except (OSError, MemoryError) as error:
                decoded = error
            pickle.dump(decoded, sys.stdout.buffer)
            sys.stdout.buffer.flush()
    os._exit(0)  # skips the last flush of stdout, whose reader may have ended
