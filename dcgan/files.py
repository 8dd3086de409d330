"""Files: written whole or not at all, found, described."""

import contextlib
import ctypes
import fcntl
import glob
import hashlib
import json
import math
import os
import re
import shutil
import socket
import time

from tqdm import tqdm

from dcgan.errors import UserError, short_reason

TEMPORARY = '.dcgan-'  # begins the names of files and folders that are being written
DAY = 24 * 60 * 60  # seconds


def glob_files(folder, pattern):
    """The files in a folder, but no folders, that match a glob."""
    found = glob.glob(os.path.join(glob.escape(folder), pattern), recursive=True)
    return [path for path in found if not os.path.isdir(path)]


def stem(path):
    """The name of a file without its ending."""
    return os.path.splitext(os.path.basename(path))[0]


def path_inside(folder, path):
    """What follows the folder in the path of something in it."""
    return path[len(os.path.join(folder, '')) :]


def file_signature(path):
    """Bytes, and nanoseconds of the last change; zeros where it cannot be read."""
    try:
        status = os.stat(path)
    except OSError:
        return 0, 0
    return status.st_size, status.st_mtime_ns


def checksum(content):
    """A short name for what JSON can hold."""
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()[:16]


def lock_or_wait(file, reason):
    """Lock an open file, saying why if another process has it first."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        print(f' [*] Waiting: {reason}', flush=True)
        fcntl.flock(file, fcntl.LOCK_EX)


def progress_bar(name, total, unit, done=0, delay=0):
    """tqdm's bar of how far something is, its rate, and the time that is left.

    To be closed by `with`. total None stands for not known; `done` was there before.
    It is not shown before `delay` seconds.
    """
    return tqdm(
        desc=name,
        total=total,
        unit=unit,
        initial=done,
        delay=delay,
        unit_scale=True,
        mininterval=1,
        miniters=1,
    )


@contextlib.contextmanager
def atomic_path(path):
    """Yield a temporary path; move it over `path` when the block succeeds.

    A file or folder that stood at `path` stays whole until then, and for good if the
    block fails: no process ever finds half of either.
    """
    os.makedirs(os.path.dirname(path) or '.', exist_ok=True)
    temporary = temporary_path(path)
    try:
        yield temporary
        if os.path.isdir(temporary) and os.path.isdir(path):
            exchange(temporary, path)
        else:
            os.replace(temporary, path)
    finally:
        remove(temporary)


def temporary_path(path):
    """A hidden name beside `path`, of this process on this host alone."""
    folder, name = os.path.split(path)
    owner = f'{os.getpid()}@{socket.gethostname()}'
    return os.path.join(folder, f'{TEMPORARY}{owner}-{name}')


def remove_leftovers(folder):
    """Remove temporary files and folders of processes that were killed.

    Whether a process of another host still runs cannot be seen from here: what is a day
    old is removed in any case.
    """
    for path in glob.glob(os.path.join(glob.escape(folder), f'{TEMPORARY}*')):
        owner = re.match(r'(\d+)@(.*)', os.path.basename(path)[len(TEMPORARY) :])
        if not owner:
            continue
        with contextlib.suppress(FileNotFoundError):
            is_old = time.time() - os.stat(path).st_mtime > DAY
            is_ours = owner[2].startswith(f'{socket.gethostname()}-')
            if is_old or (is_ours and not is_running(int(owner[1]))):
                remove(path)


def is_running(pid):
    """Whether a process of this host is there."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # of another user
        pass
    return True


def exchange(new, old):
    """Put folder `new` in the place of folder `old`, and `old` where `new` was.

    In one step where the system can. Where it cannot, `old` is moved aside for an
    instant, under a name of its own, and then has to be removed.
    """
    with contextlib.suppress(AttributeError, OSError):  # no such function here
        libc = ctypes.CDLL(None, use_errno=True)
        here, swap = -100, 2  # AT_FDCWD, RENAME_EXCHANGE
        paths = os.fsencode(new), os.fsencode(old)
        if libc.renameat2(here, paths[0], here, paths[1], swap) == 0:
            return
    aside = temporary_path(f'{old}-before')
    os.rename(old, aside)
    os.rename(new, old)
    os.rename(aside, new)


def remove(path):
    """Remove a file, or a folder with all that is in it, if it is there."""
    if os.path.isdir(path) and not os.path.islink(path):
        shutil.rmtree(path, ignore_errors=True)
    else:
        with contextlib.suppress(FileNotFoundError):
            os.remove(path)


@contextlib.contextmanager
def write_errors(path, errors=OSError):
    """Turn these errors of whatever writes `path` into a UserError that names it."""
    try:
        yield
    except UserError:
        raise
    except errors as error:
        raise UserError(
            f'{path}: cannot be written ({short_reason(error)}); what was saved before is '
            'kept'
        ) from error


def sync_to_disk(path):
    """Wait until a file, or the names in a folder, are on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def expand_path(path):
    """Expand ~ and $VARS."""
    return os.path.expanduser(os.path.expandvars(path))


def timestamp():
    """Local time for the name of a run."""
    return time.strftime('%Y%m%d.%H%M%S')


def utc_timestamp():
    """UTC time for the name of a test sheet."""
    return time.strftime('%Y%m%d%H%M%S', time.gmtime())


def write_json(path, content):
    """Write a dict as sorted JSON, indented by 4, whole or not at all.

    Numbers that JSON cannot hold, which are not finite, become strings such as "inf".
    """
    content = {
        key: str(value)
        if isinstance(value, float) and not math.isfinite(value)
        else value
        for key, value in content.items()
    }
    with atomic_path(path) as temporary:
        with open(temporary, 'w', encoding='utf-8') as file:
            json.dump(
                content,
                file,
                indent=4,
                sort_keys=True,
                ensure_ascii=False,
                allow_nan=False,
            )
        sync_to_disk(temporary)
