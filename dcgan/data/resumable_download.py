"""Download files by HTTP or from Google Drive, resume, check and unpack them."""

import contextlib
import glob
import hashlib
import os
import re
import socket
import time
import zipfile
import zlib
from collections.abc import Callable, Iterable, Sequence
from typing import BinaryIO

from six.moves import urllib
from six.moves.http_client import HTTPException

from dcgan.util.errors import UserError, printable
from dcgan.util.progress import progress_bar

DRIVE = 'https://drive.google.com/uc?id='
MAX_TRIES = 5  # tries in a row that add no bytes, before a download fails
PAUSE = 1.0  # seconds before the second try; doubled before each further one
TIMEOUT = 30  # seconds to wait for a server to send anything
HTML_PREFIX = 1 << 12  # bytes at the start of a file in which HTML is recognized
BUSY_STATUSES = (408, 429, 500, 502, 503, 504)  # HTTP statuses worth another try


class TransientError(Exception):
    """A broken connection or a busy server: the download can be tried again."""


def find_or_download(
    name: str,
    folders: Sequence[str],
    urls: Iterable[str],
    is_valid: Callable[[str], bool],
    advice: str,
) -> str:
    """Return the path of a valid file: an existing one, or else a new download.

    The folders are searched in order for a file `name`. An invalid one is an error, but
    kept, because the user may have put it there. If there is none, the URLs are tried
    in order and the file is written to the first folder. It is called `name`.part until
    it is complete and valid, so that an interrupted download can be resumed.

    is_valid  takes a path
    advice    what the user can do; ends the message of the error

    Raises UserError if the file in a folder is invalid or every URL fails.
    """
    for path in (os.path.join(folder, name) for folder in folders):
        if os.path.exists(path):
            problem = describe_problem(path, is_valid)
            if problem:
                raise UserError(f'{path}: {problem}; remove it, then {advice}')
            print(f'{path}: already there', flush=True)
            return path
    path, failures = os.path.join(folders[0], name), []
    os.makedirs(folders[0], exist_ok=True)
    for url in urls:
        try:
            download_verified(url, f'{path}.part', is_valid)
        except UserError as error:
            failures.append(str(error))
        else:
            os.replace(f'{path}.part', path)
            return path
    with contextlib.suppress(OSError):
        os.rmdir(folders[0])  # fails, as it should, if the folder is not empty
    raise UserError(f'{"; ".join(failures)}; {advice}')


def download_verified(url: str, part: str, is_valid: Callable[[str], bool]) -> None:
    """Download a URL to the file `part`, resuming it, and check the result.

    An invalid result is removed. Raises UserError if the download fails or is invalid.
    """
    was_resumed = os.path.exists(part)
    download_with_retries(url, part)
    problem = describe_problem(part, is_valid)
    if problem and was_resumed:  # the old part may belong to a different file
        print(f'{part}: {problem}; removing it and downloading it again', flush=True)
        os.remove(part)
        download_with_retries(url, part)
        problem = describe_problem(part, is_valid)
    if problem:
        os.remove(part)
        raise UserError(f'{url}: {problem}; the download was removed')


def describe_problem(path: str, is_valid: Callable[[str], bool]) -> str | None:
    """Describe what is wrong with a file; None if it is valid and not HTML."""
    with open(path, 'rb') as file:
        html_problem = describe_html(file.read(HTML_PREFIX))
    if html_problem:
        return html_problem
    if not is_valid(path):
        return f'corrupt or not the expected file ({os.path.getsize(path):,} bytes)'
    return None


def describe_html(prefix: bytes) -> str | None:
    """Explain why a server sent HTML instead of a file; None if it is not HTML.

    `prefix` is the start of what the server sent.
    """
    html = prefix.removeprefix(b'\xef\xbb\xbf').lstrip().lower()
    if not html.startswith((b'<!doctype html', b'<html', b'<!--')):
        return None
    reason = 'probably the error message of a dead link or a proxy'
    if b'quota' in html or b'too many users' in html:
        reason = "Google Drive's download quota for it is used up; try again in a day"
    elif b'virus' in html:
        reason = 'Google Drive asks to confirm large files'
    elif b'sign in' in html or b'log in' in html:
        reason = 'the server asks for a login'
    return f'an HTML page instead of the file ({reason})'


def download_with_retries(url: str, part: str) -> None:
    """Download a URL to the file `part`, resuming it after each lost connection.

    Raises UserError if the server refuses, or MAX_TRIES tries in a row add no bytes.
    """
    download_once = download_from_drive if url.startswith(DRIVE) else resume_download
    tries, most_bytes = 0, bytes_so_far(part)
    while True:
        try:
            return download_once(url, part)
        except TransientError as error:
            tries = tries + 1 if bytes_so_far(part) <= most_bytes else 1
            most_bytes = max(most_bytes, bytes_so_far(part))
            cause = getattr(error.__cause__, 'reason', None)
            host_is_unknown = not most_bytes and isinstance(cause, socket.gaierror)
            if tries == MAX_TRIES or host_is_unknown:
                raise UserError(f'{url}: {error} (tries: {tries})') from error
            pause = PAUSE * 2 ** (tries - 1)
            print(f'{url}: {error}; trying again in {pause:.0f} s', flush=True)
            time.sleep(pause)


def bytes_so_far(part: str) -> int:
    """Size of the file `part` plus gdown's temporary files for it, in bytes."""
    return sum(os.path.getsize(path) for path in glob.glob(f'{glob.escape(part)}*'))


def resume_download(url: str, part: str, from_start: bool = False) -> None:
    """Request the missing bytes of the file `part` once, and append them.

    If the server cannot send just those, or with `from_start`, the whole file is
    downloaded; it replaces `part` only if it is at least as long. Raises TransientError
    if the connection breaks or the server is busy, UserError if it refuses.
    """
    start = 0 if from_start else file_size(part)
    response = open_url(url, start)
    if response is None:
        return
    with response:
        sent = re.match(r'bytes (\d+)-', response.headers.get('Content-Range', ''))
        continues = start and response.status == 206 and sent and int(sent[1]) == start
        if response.status == 206 and not continues and not from_start:
            # the server sent a different range than requested
            return resume_download(url, part, from_start=True)
        length = response.headers.get('Content-Length', '')
        total = int(length) + (start if continues else 0) if length.isdigit() else None
        chunk = call_network(response.read, HTML_PREFIX)
        html_problem = not continues and describe_html(chunk)
        if html_problem:
            raise UserError(f'{url}: {html_problem}')
        target = part if continues or not os.path.exists(part) else f'{part}.new'
        try:
            with (
                open(target, 'ab' if continues else 'wb') as file,
                progress_bar(
                    os.path.basename(url), total, 'B', file_size(target)
                ) as bar,
            ):
                while chunk:
                    file.write(chunk)
                    bar.update(len(chunk))
                    chunk = call_network(response.read1, 1 << 16)
        finally:
            size = file_size(target)
            if target != part and size < file_size(part):
                os.remove(target)
            elif target != part:  # keep the longer of the two
                os.replace(target, part)
    if total and size < total:
        raise TransientError(f'connection lost after {size:,} of {total:,} bytes')


def open_url(url: str, start: int):
    """Open a URL and return the response; request only the bytes from `start` on.

    A server may ignore `start` and send the whole file. Returns None if the file has no
    bytes after `start`. Raises TransientError if the connection breaks or the server is
    busy, UserError if the URL is invalid or the server refuses.
    """
    headers = {'User-Agent': 'DCGAN'}
    if start:
        headers['Range'] = f'bytes={start}-'
    try:
        request = urllib.request.Request(url, headers=headers)
        return call_network(urllib.request.urlopen, request, timeout=TIMEOUT)
    except urllib.error.HTTPError as error:
        message = f'{error.code} {printable(error.reason)[:300]}'
        if error.code == 416 and start:
            return None
        if error.code in BUSY_STATUSES:
            raise TransientError(message) from error
        raise UserError(f'{url}: {message}') from error
    except ValueError as error:
        raise UserError(f'{url}: {error}') from error


def call_network(function, *args, **kwargs):
    """Call a function; raise TransientError if the connection fails in it.

    An HTTPError, which is the answer of a server, is raised unchanged.
    """
    try:
        return function(*args, **kwargs)
    except urllib.error.HTTPError:
        raise
    except (OSError, HTTPException) as error:
        reason = printable(getattr(error, 'reason', error))[:300]
        raise TransientError(reason) from error


def download_from_drive(url: str, part: str) -> None:
    """Download a file from Google Drive to `part` with the gdown package; one try.

    Raises TransientError if it is worth another try, UserError if it is refused or
    gdown is not installed.
    """
    try:
        import gdown
    except ImportError as error:
        raise UserError(
            f'{url}: Google Drive needs the gdown package: pip install gdown'
        ) from error
    # gdown resumes a partial file only if there is exactly one: keep the largest
    partial = sorted(glob.glob(f'{glob.escape(part)}.drive*'), key=os.path.getsize)
    for path in partial[:-1]:
        os.remove(path)
    try:
        path = gdown.download(url, f'{part}.drive', resume=True)
    except Exception as error:  # errors of gdown and of its dependencies
        status = getattr(getattr(error, 'response', None), 'status_code', 500)
        was_refused = type(error).__name__ == 'FileURLRetrievalError'
        if was_refused or (status < 500 and status not in BUSY_STATUSES):
            raise UserError(f'{url}: {printable(error)[:300]}') from error
        raise TransientError(printable(error)[:300]) from error
    if path is None:
        raise TransientError('gdown could not download it')
    os.replace(path, part)


def file_size(path: str) -> int:
    """Size of a file in bytes; 0 if it does not exist."""
    return os.path.getsize(path) if os.path.exists(path) else 0


def md5_of_file(path: str) -> str:
    """MD5 of a file, as hexadecimal digits."""
    with open(path, 'rb') as file:
        return md5_of_stream(file)


def md5_of_stream(file: BinaryIO) -> str:
    """MD5 of the rest of an open binary file, as hexadecimal digits."""
    digest = hashlib.md5(usedforsecurity=False)
    while chunk := file.read(1 << 20):
        digest.update(chunk)
    return digest.hexdigest()


def unpack(archive: str, folder: str, suffix: str) -> None:
    """Unpack the files of a zip archive whose names end in `suffix` into a folder.

    Folders inside the archive are ignored, so that no file lands outside `folder`.
    Files that exist with their full size are not unpacked again. Raises UserError for
    a corrupt archive.
    """
    os.makedirs(folder, exist_ok=True)
    try:
        with zipfile.ZipFile(archive) as packed:
            members = [m for m in packed.infolist() if m.filename.endswith(suffix)]
            total = sum(member.file_size for member in members)
            with progress_bar(
                f'unpacking {os.path.basename(archive)}', total, 'B'
            ) as bar:
                for member in members:
                    name = re.split(r'[/\\]', member.filename)[-1]
                    path = os.path.join(folder, name)
                    if file_size(path) == member.file_size:
                        bar.update(member.file_size)
                        continue
                    with packed.open(member) as source, open(path, 'wb') as target:
                        while chunk := source.read(1 << 20):
                            target.write(chunk)
                            bar.update(len(chunk))
    except (zipfile.BadZipFile, zlib.error) as error:
        raise UserError(
            f'{archive}: corrupt ({error}); remove it and run this again'
        ) from error


def is_complete_zip(path: str) -> bool:
    """Whether a file is a zip archive and the checksums of all its members match."""
    try:
        with zipfile.ZipFile(path) as packed:
            total = sum(member.file_size for member in packed.infolist())
            with progress_bar(f'checking {os.path.basename(path)}', total, 'B') as bar:
                for member in packed.infolist():
                    with packed.open(member) as source:
                        while chunk := source.read(1 << 20):
                            bar.update(len(chunk))
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError):
        return False
    return True
