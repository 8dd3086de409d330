"""Find, identify and remove files, and write them atomically."""

import contextlib
import errno
import glob
import hashlib
import itertools
import json
import os
import re
import shutil
import socket
import stat
import tempfile
import time
import zipfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import BinaryIO, TypeVar

from dcgan.util.errors import UserError, short_reason

# the names of files and folders that are still being written start with this
TEMPORARY_PREFIX = '.dcgan-'
T = TypeVar('T')
MAX_BYTES = 1 << 27  # of a file that read_file reads as a whole
MAX_RATIO = 16  # of what a larger archive holds, when it is unpacked, to its size
# advice of write_errors for files that no run has to keep
FREE_SPACE = 'free space, or choose another folder'


def glob_files(folder: str, pattern: str) -> list[str]:
    """Paths of the files, not folders, in `folder` that match a glob pattern.

    Its ** also searches subfolders, each once, whatever links lead to it.
    """
    head, stars, tail = f'/{pattern}/'.partition('/**/')
    head = head[1:] if stars else pattern
    found = glob.glob(os.path.join(glob.escape(folder), head))
    if not stars:
        return [path for path in found if not os.path.isdir(path)]
    files = {}
    for path in all_folders(sorted(found, key=os.path.islink)):
        files.update(dict.fromkeys(glob_files(path, tail[:-1] or '*')))
    return list(files)


def all_folders(roots: list[str]) -> Iterator[str]:
    """Yield folders and all folders in them, each once, but not hidden ones.

    Where links lead to a folder too, its shortest path is yielded.
    """
    waiting, seen = list(roots), set()
    for path in waiting:  # also what is appended below
        real = os.path.realpath(path)
        if real in seen:
            continue
        seen.add(real)
        yield path
        # it may be a file, or a folder that cannot be read
        with contextlib.suppress(OSError), os.scandir(path) as entries:
            folders = [e for e in entries if e.is_dir() and not e.name.startswith('.')]
            folders.sort(key=lambda entry: (entry.is_symlink(), entry.name))
            waiting.extend(entry.path for entry in folders)


def first_file(folders: Sequence[str], names: Sequence[str]) -> str | None:
    """The path of the first file in these folders with one of the names, or None."""
    paths = (os.path.join(folder, name) for folder in folders for name in names)
    return next(filter(os.path.isfile, paths), None)


def free_path(path: str, separator: str = '') -> str:
    """`path`, or the first of path, separator and 2, 3, ... that does not exist."""
    numbered = (f'{path}{separator}{number}' for number in itertools.count(2))
    return next(p for p in itertools.chain([path], numbered) if not os.path.lexists(p))


def stem(path: str) -> str:
    """The name of a file without its folder and its extension."""
    return os.path.splitext(os.path.basename(path))[0]


def relative_path(path: str, folder: str) -> str:
    """The part of `path` after `folder`. `path` must start with `folder`."""
    return path[len(os.path.join(folder, '')) :]


def file_signature(path: str) -> tuple[int, int]:
    """Size in bytes and modification time in nanoseconds; (0, 0) if unreadable."""
    with contextlib.suppress(OSError):
        status = os.stat(path)
        return status.st_size, status.st_mtime_ns
    return 0, 0


def json_digest(content: object) -> str:
    """A digest, 16 hexadecimal digits, of a value that JSON can represent."""
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()[:16]


@contextlib.contextmanager
def atomic_path(path: str) -> Iterator[str]:
    """Yield a temporary path; move it over `path` when the block succeeds.

    No process ever sees a partly written file or folder at `path`. A folder is absent
    for a moment, in which it is at `{path}.before`, where a killed process leaves it.
    """
    os.makedirs(os.path.dirname(path) or '.', exist_ok=True)
    temporary, before = temporary_path(path), f'{path}.before'
    try:
        yield temporary
        is_folder = os.path.isdir(temporary)
        if is_folder and os.path.isdir(path):
            remove(before)
            os.rename(path, before)
        os.replace(temporary, path)
        if is_folder:
            remove(before)  # only now: it may be the one complete folder
    finally:
        remove(temporary)


@contextlib.contextmanager
def without_wildcards(path: str) -> Iterator[str]:
    """Yield a path to the same file for code that takes *, ?, [ or \\ for a pattern.

    It avoids a folder that has such a character, or is not in UTF-8, by a link to it.
    """
    folder, name = os.path.split(os.path.abspath(path))
    is_utf8 = not re.search('[\ud800-\udfff]', folder)
    if is_utf8 and not set(folder) & set('*?[\\') - {os.sep}:
        yield path
        return
    with tempfile.TemporaryDirectory() as parent:
        link = os.path.join(parent, 'folder')
        os.symlink(folder, link)
        yield os.path.join(link, name)


def temporary_path(path: str) -> str:
    """A hidden name in the folder of `path` that only this process uses."""
    folder, name = os.path.split(path)
    owner = f'{os.getpid()}@{socket.gethostname()}'
    return os.path.join(folder, f'{TEMPORARY_PREFIX}{owner}~{name}')


def remove_leftovers(folder: str) -> None:
    """Remove the temporary files and folders that killed processes left in `folder`."""
    for path in Path(folder).glob(f'{TEMPORARY_PREFIX}*'):
        owner = re.match(rf'{TEMPORARY_PREFIX}(\d+)@([^~]*)~', path.name)
        if not owner:
            continue
        with contextlib.suppress(FileNotFoundError):
            # a process on another host cannot be seen: what is a day old is removed
            is_old = time.time() - path.stat().st_mtime > 24 * 60 * 60
            is_of_this_host = owner[2] == socket.gethostname()
            if is_old or (is_of_this_host and not process_exists(int(owner[1]))):
                remove(path)


def process_exists(pid: int) -> bool:
    """Whether a process with this id exists on this host; True if that is unknown."""
    if os.name == 'posix':  # elsewhere, signal 0 would be sent
        try:
            os.kill(pid, 0)
        except OSError as error:  # PermissionError: it belongs to another user
            return not isinstance(error, ProcessLookupError)
    return True


def remove(path: str) -> None:
    """Remove a file, or a folder and its content. Does nothing if there is neither."""
    if os.path.isdir(path) and not os.path.islink(path):
        shutil.rmtree(path, ignore_errors=True)
    else:
        Path(path).unlink(missing_ok=True)


@contextlib.contextmanager
def write_errors(
    path: str,
    errors: type[Exception] | tuple[type[Exception], ...] = OSError,
    advice: str = 'everything saved before is kept',
    problem: str = 'cannot be written',
) -> Iterator[None]:
    """Re-raise `errors` of code that writes `path` as UserError, ending in `advice`."""
    try:
        yield
    except UserError:
        raise
    except errors as error:
        reason = f'{short_reason(error):.300}'
        raise UserError(f'{path}: {problem} ({reason}); {advice}') from error


def read_errors(
    path: str, problem: str = 'cannot be read', advice: str = 'fix it or remove it'
) -> contextlib.AbstractContextManager[None]:
    """Re-raise any error of code that reads a file from outside as UserError."""
    return write_errors(path, Exception, advice, problem)


def open_file(path: str) -> BinaryIO:
    """Open a file to read bytes. OSError where it is a pipe, a device or a folder."""
    if not stat.S_ISREG(os.stat(path).st_mode):
        raise OSError(errno.EINVAL, 'it is no regular file', path)
    return open(path, 'rb')


@contextlib.contextmanager
def opening(path: str, *how: str) -> Iterator[BinaryIO]:
    """Open a file from outside to read bytes, with read_errors(path, *how)."""
    with read_errors(path, *how), open_file(path) as file:
        yield file


def read_file(
    path: str, parse: Callable[[bytes], T], *how: str, most: int = MAX_BYTES
) -> T:
    """Read a file from outside: returns parse(content), of at most `most` bytes.

    Raises UserError, by read_errors(path, *how), whatever the content is.
    """
    with opening(path, *how) as file:
        content = file.read(min(most, os.fstat(file.fileno()).st_size) + 1)
        if len(content) > most:
            raise ValueError(f'it has more than {most:,} bytes')
        return parse(content)


def zip_members(archive: zipfile.ZipFile, suffix: str) -> list[zipfile.ZipInfo]:
    """The members of an archive whose names end in `suffix`; ValueError for bombs."""
    members = [m for m in archive.infolist() if m.filename.endswith(suffix)]
    most = max(MAX_BYTES, MAX_RATIO * os.path.getsize(archive.fp.name))
    if sum(member.file_size for member in members) > most:
        raise ValueError(f'it announces more than {most:,} bytes')
    # other methods unpack more than they are asked for
    if {m.compress_type for m in members} - {zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED}:
        raise ValueError('it is packed by an unusual method')
    return members


def require_writable(folder: str, advice: str) -> None:
    """Raise UserError, which ends in `advice`, if nothing can be written to a folder.

    The folder need not exist, and is not created.
    """
    path = Path(os.path.abspath(folder))
    existing = next(filter(os.path.lexists, [path, *path.parents]))
    with write_errors(folder, advice=advice):
        os.rmdir(tempfile.mkdtemp(prefix=TEMPORARY_PREFIX, dir=existing))


def write_bytes(path: str, content: bytes) -> None:
    """Write a file atomically. Raises UserError if that fails."""
    with write_errors(path), atomic_path(path) as temporary:
        Path(temporary).write_bytes(content)


def sync_to_disk(path: str) -> None:
    """Wait until a file is stored on the disk; for a folder, its list of names."""
    if os.name != 'posix' and os.path.isdir(path):  # Windows cannot open folders
        return
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def expand_path(path: str) -> str:
    """Expand ~ and environment variables such as $HOME."""
    return os.path.expanduser(os.path.expandvars(path))


def timestamp(s: str = '%Y%m%d.%H%M%S', ts: float | None = None) -> str:
    """Local time in the format `s`: now, or at `ts` in seconds since 1970."""
    return time.strftime(s, time.localtime(ts))


def utc_timestamp() -> str:
    """UTC time, for the name of an image grid: 20250131235959."""
    return time.strftime('%Y%m%d%H%M%S', time.gmtime())


def write_json(path: str, content: dict) -> None:
    """Write a dict atomically as JSON with sorted keys; inf and NaN become strings."""
    content = json.loads(json.dumps(content), parse_constant=lambda x: str(float(x)))
    text = json.dumps(content, indent=4, sort_keys=True, ensure_ascii=False)
    with atomic_path(path) as temporary:
        Path(temporary).write_text(text, encoding='utf-8')
        sync_to_disk(temporary)
