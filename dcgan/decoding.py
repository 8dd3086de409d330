"""Decoding of image files, here or ahead of time in other processes."""

import collections
import contextlib
import os
import pickle
import queue
import subprocess
import sys
import weakref
from concurrent import futures

import numpy as np

from dcgan.errors import UserError
from dcgan.images import ignore_pillow_warnings, load_image

# the folder of the project takes the place of the current one in the search path
SERVE = f"""
import sys
sys.path[0] = {os.path.dirname(os.path.dirname(os.path.abspath(__file__)))!r}
from dcgan.decoding import serve_decoding
serve_decoding()
"""


def image_shape(options):
    """(height, width, channels) of what `load_image` makes by these options."""
    channels = 1 if options['grayscale'] else 3
    return options['resize_height'], options['resize_width'], channels


def decode_images(jobs, options):
    """Load (path, box) pairs: uint8 [n, h, w, c], and {position: why} of what fails."""
    images = np.empty((len(jobs), *image_shape(options)), np.uint8)
    failures = {}
    for position, (path, box) in enumerate(jobs):
        try:
            image = load_image(path, box=box, **options)
            images[position] = image.reshape(images.shape[1:])
        except UserError as error:
            images[position], failures[position] = 0, str(error)
    return images, failures


class Workers:
    """Processes that decode images, until close() or until this process ends.

    They are not multiprocessing's, which would import the script that was started, and
    with it TensorFlow, into each. A thread waits for each of them.
    """

    def __init__(self, count, options):
        self.count, self.options = count, options
        self.processes = []

    def map(self, batches):
        """Yield decode(jobs, options) for each of the batches, in order.

        Starts the processes if they are not running. At most two batches for each
        process are being decoded or wait to be yielded.
        """
        if not self.processes:
            self.idle = queue.SimpleQueue()
            self.processes = [self._start() for _ in range(self.count)]
            self.threads = futures.ThreadPoolExecutor(self.count)
            # also runs when this object is dropped without close()
            self._end = weakref.finalize(
                self, end_workers, self.processes, self.threads
            )
        ahead = collections.deque()
        for jobs in batches:
            if len(ahead) == 2 * self.count:
                yield ahead.popleft().result()
            ahead.append(self.threads.submit(decode_in_process, self.idle, jobs))
        while ahead:
            yield ahead.popleft().result()

    def close(self):
        """End the processes and wait for them. map() would start new ones."""
        if self.processes:
            self._end()
            self.processes = []

    def _start(self):
        process = subprocess.Popen(
            [sys.executable, '-c', SERVE],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            start_new_session=True,  # Ctrl-C is for the process that is served
        )
        pickle.dump(self.options, process.stdin)
        self.idle.put(process)
        return process


def decode_in_process(idle, jobs):
    """Let one of the idle processes decode a batch; raise what it raises."""
    process = idle.get()
    try:
        pickle.dump(jobs, process.stdin)
        process.stdin.flush()
        decoded = pickle.load(process.stdout)
    except (OSError, EOFError, ValueError, pickle.UnpicklingError) as error:
        with contextlib.suppress(OSError):
            process.stdin.close()  # what it did not take would be flushed later
        raise UserError(
            f'a process that decodes pictures ended ({process.wait()}); if not for '
            'what it printed, for want of memory: lower --num_workers'
        ) from error
    finally:
        idle.put(process)
    if isinstance(decoded, Exception):
        raise decoded
    return decoded


def end_workers(processes, threads):
    for process in processes:
        process.kill()  # it holds nothing that could be lost
    threads.shutdown(wait=False, cancel_futures=True)  # this may be one of them
    for process in processes:
        process.wait()
        process.stdout.close()
        with contextlib.suppress(OSError):  # flushes what the process did not take
            process.stdin.close()


def serve_decoding():
    """Be one of the Workers: decode what comes in until there is no more."""
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
    os._exit(0)  # without a last flush to a reader that may be gone
