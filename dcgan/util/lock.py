"""Lock folders: of a run, which one process at a time trains, or of a cache."""

import contextlib
import errno
import os
import socket
from collections.abc import Callable

import filelock

from dcgan.util.errors import UserError, printable
from dcgan.util.files import open_file
from dcgan.util.output import print_line


def lock_folder(
    folder: str, reason: str = '', seconds: float = 0
) -> Callable[[], None]:
    """Lock a folder, until the returned function is called or this process ends.

    If another process has locked it, for `seconds` from now on, this prints `reason`
    and waits or, without a reason, raises filelock.Timeout. Without locks, raises
    another OSError.
    """
    lock = filelock.FileLock(os.path.join(folder, 'lock'))
    try:
        lock.acquire(timeout=seconds)
    except filelock.Timeout:
        if not reason:
            raise
        print_line(f' [*] Waiting: {reason}')
        lock.acquire()
    except NotImplementedError as error:  # older versions of filelock
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK), folder) from error
    return lock.release


def lock_run(folder: str, flag: str) -> Callable[[], object]:
    """Lock a folder of a run, chosen by `flag`; returns the function that unlocks it.

    Raises UserError, which names the owner, if another process has locked it. Where a
    file system has no locks, prints a warning.
    """
    owner_path = os.path.join(folder, 'lock.owner')
    try:
        unlock = lock_folder(folder, seconds=0.5)  # is_locked has it for an instant
    except filelock.Timeout:
        owner = 'another process'
        with contextlib.suppress(OSError), open_file(owner_path) as file:
            owner = printable(os.fsdecode(file.read())) or owner
        advice = f'wait for it to end, stop it, or choose another {flag}'
        raise UserError(f'{folder}: {owner} is training this run; {advice}') from None
    except OSError as error:
        problem = f'{folder}: cannot be locked ({error.strerror})'
        print_line(f' [!] {problem}; do not train this run in two processes at once')
        return lambda: None
    with contextlib.suppress(OSError), open(owner_path, 'w+') as file:  # no pipe
        file.write(f'process {os.getpid()} on {socket.gethostname()}')
    return unlock


def is_locked(folder: str) -> bool:
    """Whether another process is training the run in a folder."""
    try:
        lock_folder(folder)()
    except OSError as error:
        return isinstance(error, filelock.Timeout)
    return False
