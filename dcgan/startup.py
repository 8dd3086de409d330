"""The import of TensorFlow, without its log."""

import contextlib
import os
import signal
import sys
import threading

SUCCESS = b'\0 imported'  # the last message of an import that succeeded


def import_tensorflow():
    """Import TensorFlow without its log and without parts that are of no use here.

    Where the user has set a log level, the log is shown. Without Keras, h5py and
    scipy.sparse, which it can do without, the import takes a quarter less time and
    36 MB less memory.
    """
    os.environ.setdefault('TF_USE_LEGACY_KERAS', '1')
    left_out = [name for name in ('h5py', 'scipy.sparse') if name not in sys.modules]
    sys.modules.update(dict.fromkeys(left_out))
    is_quiet = 'TF_CPP_MIN_LOG_LEVEL' not in os.environ
    os.environ.setdefault('TF_CPP_MIN_LOG_LEVEL', '3')
    try:
        with held_stderr() if is_quiet else contextlib.nullcontext():
            import tensorflow  # noqa: F401
    finally:
        for name in left_out:
            del sys.modules[name]


@contextlib.contextmanager
def held_stderr():
    """Hold back what is written to file descriptor 2 in the block, native code's too.

    TensorFlow 2.21 logs before it reads the log level. If the block succeeds, its
    messages are dropped. If it raises, or the process aborts, a child process, which
    has read them, shows them: they say why.
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
            signal.signal(number, signal.SIG_IGN)  # it ends with its parent
        messages = b''.join(iter(lambda: os.read(reader, 1 << 16), b''))
        if not messages.endswith(SUCCESS):
            os.write(stderr, messages)
        os._exit(0)
    os.close(reader)
    os.dup2(writer, 2)
    os.close(writer)
    try:
        yield
        os.write(2, SUCCESS)
    finally:
        os.dup2(stderr, 2)
        os.close(stderr)
        os.waitpid(child, 0)
