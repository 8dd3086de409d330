"""Print lines and errors, also when standard output has been closed."""

import contextlib
import errno
import io
import os
import sys

from dcgan.util.errors import UserError, escape, short_reason
from dcgan.util.files import write_errors


def print_line(text: str) -> None:
    """Print and flush one line. Raises UserError if standard output has been closed."""
    try:
        with write_errors('standard output'):
            print(escape(text), flush=True)
    except UserError:
        abandon_output()
        raise


def abandon_output() -> None:
    """Drop what standard output has buffered: flushing it at exit would fail."""
    with contextlib.suppress(OSError), open(os.devnull, 'wb') as devnull:
        os.dup2(devnull.fileno(), sys.stdout.fileno())


class Extra(contextlib.AbstractContextManager):
    """What a run can do without: `with extra:` prints its first error, and goes on."""

    def __init__(self, name: str, errors: type[Exception] = Exception):
        """errors: those of its blocks that are printed; others pass, as signals do."""
        self.name, self.errors, self.works = name, errors, True

    def __exit__(self, kind, error, traceback) -> bool:
        is_failure = isinstance(error, self.errors)
        if is_failure and self.works:
            self.works = False  # before printing, which may fail, too
            is_line = isinstance(error, UserError | OSError | ImportError)
            reason = f'{"" if is_line else f"{kind.__name__}: "}{short_reason(error)}'
            reason = reason.removeprefix(f'{self.name}: ')
            print_line(f' [!] No {self.name}: {reason:.300}')
        return is_failure


def error_line(error: Exception) -> str:
    """The one line that is printed for an error."""
    number, name = getattr(error, 'errno', None), getattr(error, 'filename', None)
    if number in (errno.EPIPE, errno.ENOSPC, errno.EIO) and name is None:
        abandon_output()
        return f'standard output: cannot be written ({error.strerror})'
    return escape(str(error))


def escape_output() -> None:
    """Print each line at once, and as escapes what the terminal cannot show."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # not in some notebooks
            stream.reconfigure(errors='backslashreplace', line_buffering=True)


def print_path(path: str) -> None:
    """Print the path of a file that has been written."""
    print_line(f' [*] {path}')
