"""Download files by HTTP or from Google Drive, resume, check and unpack them."""

import contextlib
import errno
import glob
import hashlib
import os
import re
import socket
import time
import zipfile
from collections.abc import Callable, Iterator, Sequence

from six.moves import urllib
from six.moves.http_client import HTTPException

from dcgan.util.errors import UserError, printable
from dcgan.util.files import file_signature, open_file, zip_members
from dcgan.util.output import print_line
from dcgan.util.progress import progress_bar

DRIVE = 'https://drive.google.com/uc?id='
MAX_TRIES = 5  # tries in a row that add no bytes, before a download fails
PAUSE = 1.0  # seconds before the second try; doubled before each further one
TIMEOUT = 30  # seconds to wait for a server to send anything
HTML_PREFIX = 1 << 12  # bytes at the start of a file in which HTML is recognized
HTML_REASONS = {  # what an HTML page in place of a file says: what that means
    b'quota|too many users': "Google Drive's download quota for it is used up; try "
    'again in a day',
    b'virus': 'Google Drive asks to confirm large files',
    b'sign in|log in': 'the server asks for a login',
    b'': 'probably the error message of a dead link or a proxy',
}
BUSY_STATUSES = (408, 429, 500, 502, 503, 504)  # HTTP statuses worth another try


class TransientError(Exception):
    """A broken connection or a busy server: another try may help."""


class SecureRedirects(urllib.request.HTTPRedirectHandler):
    """Follows redirects, but none from https to another protocol."""

    def redirect_request(self, req, fp, code, msg, headers, newurl):
        if req.type == 'https' and not newurl.startswith('https:'):
            raise UserError(f'is redirected to {newurl}, which is not https')
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def find_or_download(
    name: str,
    folders: Sequence[str],
    urls: Sequence[str],
    is_valid: Callable[[str], bool],
    advice: str,
) -> str:
    """Return the path of a valid file `name` in one of the folders, or download it.

    The URLs are tried in order, to `name`.part in the first folder, so that a download
    can be resumed. Raises UserError, whose message ends in `advice`, if all fail, or if
    an existing file is invalid: it is kept, because the user may have put it there.
    """
    for path in (os.path.join(folder, name) for folder in folders):
        if os.path.exists(path):
            if problem := describe_problem(path, is_valid):
                raise UserError(f'{path}: {problem}; remove it, then {advice}')
            print_line(f'{path}: already there')
            return path
    path, failures = os.path.join(folders[0], name), []
    os.makedirs(folders[0], exist_ok=True)
    for url in urls:
        try:
            download_verified(url, f'{path}.part', is_valid)
            os.replace(f'{path}.part', path)
            return path
        except UserError as error:
            failures.append(str(error))
    with contextlib.suppress(OSError):  # the folder is not empty
        os.rmdir(folders[0])
    raise UserError(f'{"; ".join(failures)}; {advice}')


def download_verified(url: str, part: str, is_valid: Callable[[str], bool]) -> None:
    """Download a URL to `part`, resuming it.

    UserError if it is refused or invalid, or if MAX_TRIES in a row add no bytes.
    """
    tries, was_resumed = 0, os.path.exists(part)
    while True:
        before = bytes_so_far(part)
        try:
            if url.startswith(DRIVE):
                download_from_drive(url, part)
            else:
                for chunk in receive(url, file_signature(part)[0]):
                    with open(part, 'ab') as file:  # no chunk: no file
                        file.write(chunk)
        except TransientError as error:
            tries = 1 if bytes_so_far(part) > before else tries + 1
            reason = getattr(error.__cause__, 'reason', None)
            host_is_unknown = isinstance(reason, socket.gaierror)
            if tries == MAX_TRIES or (host_is_unknown and not before):
                raise UserError(f'{url}: {error} (tries: {tries})') from error
            pause = PAUSE * 2 ** (tries - 1)
            print_line(f'{url}: {error}; trying again in {pause:.0f} s')
            time.sleep(pause)
            continue
        problem = describe_problem(part, is_valid)
        if not problem:
            return
        os.remove(part)
        if not was_resumed:
            raise UserError(f'{url}: {problem}; the download was removed')
        # what was there before may belong to a different file
        print_line(f'{part}: {problem}; removing it and downloading it again')
        tries, was_resumed = 0, False


def describe_problem(path: str, is_valid: Callable[[str], bool]) -> str | None:
    """Describe what is wrong with a file; None if it is valid and not HTML."""
    with open_file(path) as file:
        problem = describe_html(file.read(HTML_PREFIX))
    if problem or is_valid(path):
        return problem
    return f'corrupt or not the expected file ({os.path.getsize(path):,} bytes)'


def describe_html(prefix: bytes) -> str | None:
    """Explain why a file that starts with `prefix` is HTML; None if it is not."""
    html = prefix.removeprefix(b'\xef\xbb\xbf').lstrip().lower()
    if not html.startswith((b'<!doctype html', b'<html', b'<!--')):
        return None
    reason = next(why for text, why in HTML_REASONS.items() if re.search(text, html))
    return f'an HTML page instead of the file ({reason})'


def bytes_so_far(part: str) -> int:
    """Size of the file `part` plus gdown's temporary files for it, in bytes."""
    return sum(os.path.getsize(path) for path in glob.glob(f'{glob.escape(part)}*'))


def receive(url: str, start: int) -> Iterator[bytes]:
    """Yield a URL's bytes from `start` on. TransientError or, if refused, UserError."""
    headers = {'User-Agent': 'DCGAN', **({'Range': f'bytes={start}-'} if start else {})}
    try:
        request = urllib.request.Request(url, headers=headers)
        opener = urllib.request.build_opener(SecureRedirects)
        with opener.open(request, timeout=TIMEOUT) as response:
            # a server may begin before `start`, or send the whole file
            sent = re.match(r'bytes (\d+)-', response.headers.get('Content-Range', ''))
            position = int(sent[1]) if sent else 0
            length = response.headers.get('Content-Length')
            total = position + int(length) if length else None
            chunk = response.read(HTML_PREFIX)
            if problem := describe_html(chunk):
                raise ValueError(problem)
            with progress_bar(os.path.basename(url), total, 'B', start) as bar:
                while chunk:
                    new = chunk[max(start - position, 0) :]
                    position += len(chunk)
                    bar.update(len(new))
                    yield new
                    chunk = response.read1(1 << 20)
        if total and position < total:
            raise OSError(f'connection lost after {position:,} of {total:,} bytes')
    except urllib.error.HTTPError as error:
        message = f'{error.code} {printable(error.reason)[:300]}'
        if error.code in BUSY_STATUSES:
            raise TransientError(message) from error
        if error.code != 416 or not start:  # 416: there are no bytes after `start`
            raise UserError(f'{url}: {message}') from error
    except (OSError, HTTPException) as error:
        reason = getattr(error, 'reason', error)
        raise TransientError(printable(reason)[:300]) from error
    except ValueError as error:
        raise UserError(f'{url}: {error}') from error


def download_from_drive(url: str, part: str) -> None:
    """Download a file of Google Drive by gdown. TransientError or UserError."""
    try:
        import gdown
        from gdown.exceptions import FileURLRetrievalError
    except ImportError as error:
        advice = 'Google Drive needs the gdown package: pip install gdown'
        raise UserError(f'{url}: {advice}') from error
    # gdown resumes a partial file only if there is exactly one: keep the largest
    partial = sorted(glob.glob(f'{glob.escape(part)}.drive*'), key=os.path.getsize)
    for path in partial[:-1]:
        os.remove(path)
    try:
        os.replace(gdown.download(url, f'{part}.drive', resume=True), part)
    except Exception as error:  # errors of gdown and of its dependencies
        status = getattr(getattr(error, 'response', None), 'status_code', 500)
        was_refused = isinstance(error, FileURLRetrievalError)
        if was_refused or (status < 500 and status not in BUSY_STATUSES):
            raise UserError(f'{url}: {printable(error)[:300]}') from error
        raise TransientError(printable(error)[:300]) from error


def has_digest(path: str, expected: str) -> bool:
    """Whether a file has this MD5 or SHA-256 in hexadecimal."""
    kind = {32: 'md5', 64: 'sha256'}[len(expected)]
    digest = hashlib.new(kind, usedforsecurity=False)
    with contextlib.suppress(OSError), open_file(path) as file:
        while chunk := file.read(1 << 20):
            digest.update(chunk)
        return digest.hexdigest() == expected
    return False


def unpack(archive: str, folder: str, suffix: str) -> bool:
    """Unpack the members of a zip archive that end in `suffix`; False if it is corrupt.

    Files that exist with their full size are kept; a corrupt one lacks its last bytes.
    """
    os.makedirs(folder, exist_ok=True)
    title = f'unpacking {os.path.basename(archive)}'
    try:
        with zipfile.ZipFile(archive) as packed:
            members = zip_members(packed, suffix)
            with progress_bar(title, sum(m.file_size for m in members), 'B') as bar:
                for member in members:
                    name = re.split(r'[/\\]', member.filename)[-1]  # stays in folder
                    path = os.path.join(folder, name)
                    if file_signature(path)[0] == member.file_size:
                        bar.update(member.file_size)
                        continue
                    with packed.open(member) as source, open(path, 'wb') as target:
                        while chunk := source.read(1 << 20):
                            target.write(chunk)
                            bar.update(len(chunk))
        return True
    except Exception as error:  # zipfile raises many types
        if getattr(error, 'errno', errno.EINVAL) != errno.EINVAL:
            raise  # the disk is full
        return False
