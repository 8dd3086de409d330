"""Print lines, also where standard output has gone away."""

import contextlib
import errno
import io
import os
import sys

from dcgan.util.errors import UserError, short_reason
from dcgan.util.files import write_errors


def print_line(text: str) -> None:
    """Print a line at once. Raises UserError where standard output has gone away."""
    try:
        with write_errors('standard output'):
            print(text, flush=True)
    except UserError:
        abandon_output()
        raise


def abandon_output() -> None:
    """Drop what Python holds back for standard output: it would fail at the end."""
    with contextlib.suppress(OSError), open(os.devnull, 'wb') as devnull:
        os.dup2(devnull.fileno(), sys.stdout.fileno())


def error_line(error: Exception) -> str:
    """The one line that tells a user of an error."""
    of_streams = errno.EPIPE, errno.ENOSPC, errno.EIO
    if (
        isinstance(error, OSError)
        and error.filename is None
        and error.errno in of_streams
    ):
        abandon_output()
        return f'standard output: cannot be written ({error.strerror})'
    is_native = hasattr(error, 'error_code')  # of TensorFlow
    return short_reason(error) if is_native else str(error)


def escape_output() -> None:
    """Print characters that the terminal cannot show as escapes, such as \\xe9."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # not in some notebooks
            stream.reconfigure(errors='backslashreplace')


def print_path(path):
    print(f' [*] {path}', flush=True)
