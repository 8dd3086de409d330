"""Decode image files, in this process or ahead of time in other processes."""

import collections
import multiprocessing
import os
import signal
import sys
import threading
import types
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing.context import SpawnContext, SpawnProcess
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
        self.count, self.options, self.pool = count, options, None

    def map(self, batches: Iterable[Sequence]) -> Iterator[Decoded]:
        """Yield `decode_images` of each batch, in order, at most two per process ahead.

        Raises UserError if a process dies, OSError or MemoryError if decoding does.
        """
        if not self.pool:
            self.pool = ProcessPoolExecutor(self.count, Context(), begin)
        pending = collections.deque()
        try:
            for jobs in batches:
                if len(pending) == 2 * self.count:
                    yield pending.popleft().result()
                pending.append(self.pool.submit(decode_images, jobs, self.options))
            while pending:
                yield pending.popleft().result()
        except BrokenProcessPool as error:
            raise UserError(
                'a decoding process ended: see its output above; if there is none, it '
                'probably ran out of memory: lower --num_workers'
            ) from error

    def close(self) -> None:
        """End the processes and wait for them. The next map() starts new ones."""
        if self.pool:
            self.pool.shutdown(cancel_futures=True)
            self.pool = None


class DecodingProcess(SpawnProcess):
    """A process without the main script, and thus TensorFlow, and without Ctrl-C."""

    def start(self) -> None:
        main, is_posix = sys.modules['__main__'], os.name == 'posix'
        if is_posix:  # the process inherits what is blocked
            mask = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])
        sys.modules['__main__'] = types.ModuleType('__main__')
        try:
            super().start()
        finally:
            sys.modules['__main__'] = main
            if is_posix:
                signal.pthread_sigmask(signal.SIG_SETMASK, mask)


class Context(SpawnContext):
    """How a pool starts decoding processes."""

    Process = DecodingProcess


def begin() -> None:
    """Begin a decoding process, which ends with its parent."""
    if os.name == 'posix':
        os.setsid()  # signals to the process group reach only the main process
    ignore_pillow_warnings()
    threading.Thread(target=end_with_parent, daemon=True).start()


def end_with_parent() -> None:
    multiprocessing.parent_process().join()
    os._exit(1)
