"""Lock the folders of a run, so that one process at a time trains it."""

import contextlib
import os
import socket

import filelock

from dcgan.util.errors import UserError, printable
from dcgan.util.files import lock_folder


class RunLock:
    """Locks of the folders of a run, until close() or the end of this process.

    When the process ends, even if it is killed, the system releases them. Where a file
    system has no locks, a warning is printed and the run continues without one.
    """

    def __init__(self):
        self._stack, self._locked = contextlib.ExitStack(), set()

    def add(self, folder: str, flag: str) -> None:
        """Lock a folder, if it exists. `flag` is the flag that chooses another.

        Raises UserError, which names the owner of the lock, if another process holds
        it.
        """
        path = os.path.realpath(folder)
        if path in self._locked or not os.path.isdir(path):
            return
        owner_path = os.path.join(path, 'lock.owner')
        try:
            self._stack.callback(lock_folder(path))
        except filelock.Timeout:
            owner = 'another process'
            with contextlib.suppress(OSError), open(owner_path) as file:
                owner = printable(file.read()) or owner
            raise UserError(
                f'{folder}: {owner} is training this run; wait for it to end, stop it, '
                f'or choose another {flag}'
            ) from None
        except OSError as error:
            print(
                f' [!] {folder}: cannot be locked ({error.strerror}); do not train '
                'this run in two processes at once',
                flush=True,
            )
        self._locked.add(path)
        with contextlib.suppress(OSError), open(owner_path, 'w') as file:
            file.write(f'process {os.getpid()} on {socket.gethostname()}')

    def close(self) -> None:
        """Release the locks."""
        self._stack.close()
        self._locked.clear()


def is_locked(folder: str) -> bool:
    """Whether another process is training the run in a folder."""
    try:
        lock_folder(folder)()
    except filelock.Timeout:
        return True
    except OSError:
        pass
    return False
