"""Import TensorFlow quickly and without its log messages."""

import contextlib
import glob
import importlib.metadata
import itertools
import logging
import os
import re
import signal
import sys
import threading
from collections.abc import Iterator

from dcgan.util.files import json_digest

END_OF_SUCCESS = b'\0 imported'  # the parent writes this last if the import succeeds
_is_held = False  # whether held_stderr holds back messages now


def import_tensorflow() -> None:
    """Import TensorFlow without its log and without modules that are not needed here.

    The log is shown if the user has set TF_CPP_MIN_LOG_LEVEL. TensorFlow can do without
    Keras 3, h5py and scipy.sparse; leaving them out makes the import a quarter faster
    and saves 36 MB of memory.
    """
    os.environ.setdefault('TF_USE_LEGACY_KERAS', '1')
    keep_compiled_programs()
    skipped = [name for name in ('h5py', 'scipy.sparse') if name not in sys.modules]
    sys.modules.update(dict.fromkeys(skipped))  # None makes their import fail
    is_quiet = 'TF_CPP_MIN_LOG_LEVEL' not in os.environ
    os.environ.setdefault('TF_CPP_MIN_LOG_LEVEL', '3')
    try:
        with held_stderr() if is_quiet else contextlib.nullcontext():
            import tensorflow  # noqa: F401
    finally:
        for name in skipped:
            del sys.modules[name]
    # no deprecation notes about TF1 graphs; TensorFlow raises its errors as well
    logging.getLogger('tensorflow').setLevel(logging.CRITICAL)


def keep_compiled_programs() -> None:
    """Let XLA keep compiled programs in the user's cache folder, by TF_XLA_FLAGS.

    TensorFlow reads these flags when it is imported, so call this before. Each version
    of TensorFlow and each kind of processor and GPU has a separate folder, because XLA
    would load the programs of another one.
    """
    flags = os.environ.get('TF_XLA_FLAGS', '')
    if 'persistent_cache_directory' in flags:
        return
    base = os.environ.get('XDG_CACHE_HOME') or os.path.expanduser('~/.cache')
    folder = existing = os.path.join(base, 'dcgan', f'xla-{describe_machine()}')
    if "'" in folder:
        return
    while not os.path.exists(existing):
        existing = os.path.dirname(existing)
    if os.path.isdir(existing) and os.access(existing, os.W_OK | os.X_OK):
        # where XLA cannot write, it does not compile either
        flags += f" --tf_xla_persistent_cache_directory='{folder}'"
        os.environ['TF_XLA_FLAGS'] = flags.strip()


def describe_machine() -> str:
    """A digest of the version of TensorFlow, the processor and the NVIDIA GPUs."""
    lines = []
    with contextlib.suppress(importlib.metadata.PackageNotFoundError):
        lines.append(importlib.metadata.version('tensorflow'))
    for path in ['/proc/cpuinfo', *glob.glob('/proc/driver/nvidia/gpus/*/information')]:
        with contextlib.suppress(OSError), open(path) as file:
            kinds = (line for line in file if re.match('model name|flags|Model:', line))
            lines += itertools.islice(kinds, 2)
    return json_digest(lines)


def exit_at_once(number: int, frame) -> None:
    """A signal handler that exits, for the time before there is anything to save.

    Messages that `held_stderr` holds back are dropped.
    """
    if _is_held:
        os.write(2, END_OF_SUCCESS)
    os._exit(128 + number)


@contextlib.contextmanager
def held_stderr() -> Iterator[None]:
    """Hold back everything that the block, or native code in it, writes to stderr.

    TensorFlow 2.21 logs messages before it reads the log level. If the block succeeds,
    its messages are dropped. If it raises an exception, or if native code aborts the
    process, the messages are shown, because they give the reason. A child process does
    this: it reads the messages from a pipe and outlives an abort.

    Nothing is held back if stderr is closed, or if the process cannot fork safely.
    """
    can_fork = hasattr(os, 'fork') and threading.active_count() == 1
    try:
        stderr = os.dup(2)
    except OSError:  # it is closed
        stderr = None
    if stderr is None or not can_fork:
        yield
        return
    reader, writer = os.pipe()
    child = os.fork()
    if not child:
        os.close(writer)
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)  # the child ends with its parent
        messages = b''.join(iter(lambda: os.read(reader, 1 << 16), b''))
        if not messages.endswith(END_OF_SUCCESS):
            os.write(stderr, messages)
        os._exit(0)
    os.close(reader)
    os.dup2(writer, 2)
    os.close(writer)
    global _is_held
    _is_held = True
    try:
        yield
        os.write(2, END_OF_SUCCESS)
    finally:
        _is_held = False
        os.dup2(stderr, 2)
        os.close(stderr)
        with contextlib.suppress(ChildProcessError):  # a parent may ignore SIGCHLD
            os.waitpid(child, 0)


def report_thread_error(args) -> None:
    """Print the traceback of an error in a thread, except TensorFlow's summary thread.

    Use it as threading.excepthook. The next summary that is written raises the error
    of the summary thread again.
    """
    if type(args.thread).__name__ != '_EventLoggerThread':
        threading.__excepthook__(args)
