"""Import TensorFlow quickly and without its log messages."""

import atexit
import contextlib
import faulthandler
import gc
import importlib.metadata
import logging
import os
import re
import sys
import tempfile
import threading
import zlib
from collections.abc import Iterator
from pathlib import Path

from dcgan.util.errors import short_reason
from dcgan.util.files import json_digest, remove
from dcgan.util.gpus import nvidia_gpus


def import_tensorflow() -> None:
    """Import TensorFlow without its log, unless TF_CPP_MIN_LOG_LEVEL is below 3.

    SystemExit, in one line, if it is missing, or fails beside tensorflow-metal.
    """
    if metal := any(importlib.metadata.distributions(name='tensorflow-metal')):
        problem = 'TensorFlow fails with tensorflow-metal, or draws wrong images'
        print(f' [!] {problem}; pip uninstall tensorflow-metal', flush=True)
    # an import without Keras 3, h5py and scipy.sparse is 25% faster, 36 MB smaller
    os.environ.setdefault('TF_USE_LEGACY_KERAS', '1')
    machine = describe_machine()
    keep_compiled_programs(machine)
    skipped = [name for name in ('h5py', 'scipy.sparse') if name not in sys.modules]
    sys.modules.update(dict.fromkeys(skipped))  # None makes their import fail
    # on an x86 processor without AVX, TensorFlow says so and aborts
    aborts = any(re.match('flags(?!.* avx )', line) for line in machine)
    is_quiet = os.environ.setdefault('TF_CPP_MIN_LOG_LEVEL', '3') == '3' and not aborts
    gc.disable()  # collecting takes a fifth of the time: an import leaves no garbage
    try:
        with held_stderr() if is_quiet else contextlib.nullcontext():
            import tensorflow  # noqa: F401
    except Exception as error:
        if not metal and getattr(error, 'name', None) != 'tensorflow':
            raise
        fix = 'uninstall tensorflow-metal' if metal else 'install -r requirements.txt'
        sys.exit(f'TensorFlow cannot be imported: {short_reason(error)}; pip {fix}')
    finally:
        gc.enable()
        for name in skipped:
            del sys.modules[name]
    gc.freeze()  # later collections skip what the import has made
    # no deprecation notes about TF1 graphs; TensorFlow raises its errors as well
    logging.getLogger('tensorflow').setLevel(logging.CRITICAL)


def describe_machine() -> list[str]:
    """The version of TensorFlow, and lines on the processor and on NVIDIA GPUs."""
    machine = []
    with contextlib.suppress(Exception):  # no package, or its files are damaged
        machine.append(str(importlib.metadata.version('tensorflow')))
    with contextlib.suppress(OSError):
        text = Path('/proc/cpuinfo').read_text()
        machine += re.findall('^(?:model name|flags).*', text, re.M)[:2]
    return machine + nvidia_gpus()


def keep_compiled_programs(machine: list[str]) -> None:
    """Let XLA keep compiled programs in the user's cache; call it before the import.

    XLA would load those of another machine or version of TensorFlow, fail where it
    cannot write, and crash on a damaged one: a whole one has its checksum as its time.
    """
    flags = os.environ.get('TF_XLA_FLAGS', '')
    base = os.environ.get('XDG_CACHE_HOME') or os.path.expanduser('~/.cache')
    folder = Path(base, 'dcgan', f'xla-{json_digest(machine)}').absolute()
    if 'persistent_cache_directory' in flags or "'" in str(folder):
        return
    existing = next(filter(os.path.lexists, [folder, *folder.parents]))
    with contextlib.suppress(OSError), tempfile.TemporaryFile(dir=existing) as file:
        if hasattr(os, 'posix_fallocate'):  # it is not on macOS
            os.posix_fallocate(file.fileno(), 0, 1 << 24)  # it asks quotas, too
        for path in folder.glob('*.pb'):
            time = path.is_file() and zlib.crc32(path.read_bytes()) >> 1
            if not time or path.stat().st_mtime != time:
                remove(str(path))
        atexit.register(mark_whole, folder, {*folder.glob('*.pb')})
        flags += f" --tf_xla_persistent_cache_directory='{folder}'"
        os.environ['TF_XLA_FLAGS'] = flags.strip()


def mark_whole(folder: Path, known: set[Path]) -> None:
    """Set the time of the compiled programs in a folder that are not known."""
    for path in {*folder.glob('*.pb')} - known:
        with contextlib.suppress(OSError):  # another process has removed it
            time = zlib.crc32(path.read_bytes()) >> 1  # 31 bits: until 2038
            os.utime(path, (time, time))


@contextlib.contextmanager
def held_stderr(shows_errors=True) -> Iterator[None]:
    """Hold back what the block writes to stderr; shows_errors: show it if it fails.

    TensorFlow 2.21 logs messages before it reads the log level. If its native code
    aborts, they are lost, and Python prints where that was.
    """
    with contextlib.ExitStack() as stack:
        try:
            stderr, held = os.dup(2), stack.enter_context(tempfile.TemporaryFile())
        except OSError:  # stderr is closed, or no temporary file can be written
            yield
            return
        stack.callback(os.close, stderr)
        if not faulthandler.is_enabled():
            faulthandler.enable(stderr)
            stack.callback(faulthandler.disable)
        os.dup2(held.fileno(), 2)
        stack.callback(os.dup2, stderr, 2)
        try:
            yield
        except BaseException:
            if shows_errors:
                held.seek(0)
                os.write(stderr, held.read())
            raise


def report_thread_error(args) -> None:
    """Print the traceback of an error in a thread, as threading.excepthook."""
    # the next summary that is written raises an error of the summary thread again
    if type(args.thread).__name__ != '_EventLoggerThread':
        threading.__excepthook__(args)
