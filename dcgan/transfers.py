"""Files over HTTP, resumed where they broke off; archives."""

import contextlib
import glob
import hashlib
import os
import re
import socket
import time
import zipfile
import zlib

from six.moves import urllib
from six.moves.http_client import HTTPException

from dcgan.errors import UserError, printable
from dcgan.files import progress_bar

DRIVE = 'https://drive.google.com/uc?id='
TRIES, PAUSE = 5, 1.0  # that bring nothing more; seconds after the first, then doubled
TIMEOUT = 30  # seconds in which a server has to say something
PAGE = 1 << 12  # bytes in which an HTML page shows
BUSY = (408, 429, 500, 502, 503, 504)  # HTTP's ways to say "later"


class Dropped(Exception):
    """A connection that broke, or a server that was busy: worth another try."""


def obtain(name, folders, urls, is_right, by_hand):
    """Path of a file for which is_right(path) holds, from a folder or one of the URLs.

    What is in one of the folders, perhaps fetched by hand, is checked, and left alone
    if it is wrong. Otherwise the URLs are tried in turn, to the first folder; until it
    is right the file is called `name`.part, with which an interrupted fetch goes on.
    Raises UserError where there is none; `by_hand` says what else can be done.
    """
    for path in (os.path.join(folder, name) for folder in folders):
        if os.path.exists(path):
            problem = what_is_wrong(path, is_right)
            if problem:
                raise UserError(f'{path}: {problem}; remove it, then {by_hand}')
            print(f'{path}: already there', flush=True)
            return path
    path, failures = os.path.join(folders[0], name), []
    os.makedirs(folders[0], exist_ok=True)
    for url in urls:
        try:
            fetch_right(url, f'{path}.part', is_right)
        except UserError as error:
            failures.append(str(error))
        else:
            os.replace(f'{path}.part', path)
            return path
    with contextlib.suppress(OSError):
        os.rmdir(folders[0])  # if it is empty
    raise UserError(f'{"; ".join(failures)}; {by_hand}')


def fetch_right(url, part, is_right):
    """Fetch a URL to the file `part` and check it. Raises UserError if it is wrong."""
    resumed = os.path.exists(part)
    fetch(url, part)
    problem = what_is_wrong(part, is_right)
    if problem and resumed:  # perhaps it went on from another file
        print(f'{part}: {problem}; it is removed and fetched anew', flush=True)
        os.remove(part)
        fetch(url, part)
        problem = what_is_wrong(part, is_right)
    if problem:
        os.remove(part)
        raise UserError(f'{url}: {problem}; what came was removed')


def what_is_wrong(path, is_right):
    """Words for what is wrong with a file, or None."""
    with open(path, 'rb') as file:
        page = page_in(file.read(PAGE))
    if page:
        return page
    if not is_right(path):
        return f'damaged or not what it should be ({os.path.getsize(path):,} bytes)'
    return None


def page_in(start):
    """Words for the HTML page that begins a file, and why it came; None for others."""
    page = start.removeprefix(b'\xef\xbb\xbf').lstrip().lower()
    if not page.startswith((b'<!doctype html', b'<html', b'<!--')):
        return None
    why = 'likely the message of a dead link or a proxy'
    if b'quota' in page or b'too many users' in page:
        why = "as Google Drive's quota for it is used up; try again in a day"
    elif b'virus' in page:
        why = 'as Google Drive asks to confirm large files'
    elif b'sign in' in page or b'log in' in page:
        why = 'as it wants a login'
    return f'an HTML page in its place, {why}'


def fetch(url, part):
    """Fetch a URL to the file `part`, going on from what is there, through breaks.

    Raises UserError where the server refuses, or several tries bring nothing more.
    """
    fetch_once = fetch_from_drive if url.startswith(DRIVE) else fetch_rest
    tries, most = 0, fetched(part)
    while True:
        try:
            return fetch_once(url, part)
        except Dropped as error:
            tries = tries + 1 if fetched(part) <= most else 1
            most = max(most, fetched(part))
            why = getattr(error.__cause__, 'reason', None)
            if tries == TRIES or (not most and isinstance(why, socket.gaierror)):
                raise UserError(f'{url}: {error}, tries: {tries}') from error
            pause = PAUSE * 2 ** (tries - 1)
            print(f'{url}: {error}; again in {pause:.0f} s', flush=True)
            time.sleep(pause)


def fetched(part):
    """Bytes of the file `part` and of what gdown has of it."""
    return sum(os.path.getsize(path) for path in glob.glob(f'{glob.escape(part)}*'))


def fetch_rest(url, part, whole=False):
    """Ask once for what `part` lacks or, if that cannot be had or `whole`, for all.

    What came replaces `part` if it is more.
    """
    done = 0 if whole else size_of(part)
    response = open_url(url, done)
    if response is None:
        return
    with response:
        span = re.match(r'bytes (\d+)-', response.headers.get('Content-Range', ''))
        goes_on = done and response.status == 206 and span and int(span[1]) == done
        if response.status == 206 and not goes_on and not whole:
            return fetch_rest(url, part, whole=True)  # another part than was asked for
        length = response.headers.get('Content-Length', '')
        total = int(length) + (done if goes_on else 0) if length.isdigit() else None
        chunk = from_network(response.read, PAGE)
        page = not goes_on and page_in(chunk)
        if page:
            raise UserError(f'{url}: {page}')
        to = part if goes_on or not os.path.exists(part) else f'{part}.new'
        try:
            with (
                open(to, 'ab' if goes_on else 'wb') as file,
                progress_bar(os.path.basename(url), total, 'B', size_of(to)) as bar,
            ):
                while chunk:
                    file.write(chunk)
                    bar.update(len(chunk))
                    chunk = from_network(response.read1, 1 << 16)
        finally:
            size = size_of(to)
            if to != part and size < size_of(part):
                os.remove(to)
            elif to != part:  # the longer of the two is worth more
                os.replace(to, part)
    if total and size < total:
        raise Dropped(f'broke off after {size:,} of {total:,} bytes')


def open_url(url, start):
    """The response for a URL, from byte `start` on if it has parts; None: no more."""
    headers = {'User-Agent': 'DCGAN'}
    if start:
        headers['Range'] = f'bytes={start}-'
    try:
        request = urllib.request.Request(url, headers=headers)
        return from_network(urllib.request.urlopen, request, timeout=TIMEOUT)
    except urllib.error.HTTPError as error:
        message = f'{error.code} {printable(error.reason)[:300]}'
        if error.code == 416 and start:
            return None
        if error.code in BUSY:
            raise Dropped(message) from error
        raise UserError(f'{url}: {message}') from error
    except ValueError as error:
        raise UserError(f'{url}: {error}') from error


def from_network(call, *args, **kwargs):
    """Call something that can fail for want of a connection: then raise Dropped."""
    try:
        return call(*args, **kwargs)
    except urllib.error.HTTPError:
        raise
    except (OSError, HTTPException) as error:
        raise Dropped(printable(getattr(error, 'reason', error))[:300]) from error


def fetch_from_drive(url, part):
    """Fetch a file of Google Drive to `part`, with the gdown package, once.

    gdown, too, goes on from what it has, but from one file at most.
    """
    try:
        import gdown
    except ImportError as error:
        raise UserError(
            f'{url}: Google Drive needs a package more: pip install gdown'
        ) from error
    begun = sorted(glob.glob(f'{glob.escape(part)}.drive*'), key=os.path.getsize)
    for path in begun[:-1]:
        os.remove(path)
    try:
        path = gdown.download(url, f'{part}.drive', resume=True)
    except Exception as error:  # gdown's, or those of what it uses
        status = getattr(getattr(error, 'response', None), 'status_code', 500)
        refused = type(error).__name__ == 'FileURLRetrievalError'
        if refused or (status < 500 and status not in BUSY):
            raise UserError(f'{url}: {printable(error)[:300]}') from error
        raise Dropped(printable(error)[:300]) from error
    if path is None:
        raise Dropped('gdown could not fetch it')
    os.replace(path, part)


def size_of(path):
    return os.path.getsize(path) if os.path.exists(path) else 0


def md5_of_file(path):
    with open(path, 'rb') as file:
        return md5_of(file)


def md5_of(file):
    digest = hashlib.md5(usedforsecurity=False)
    while chunk := file.read(1 << 20):
        digest.update(chunk)
    return digest.hexdigest()


def unpack(archive, folder, ending):
    """Write the files of a zip archive whose names end so straight into a folder.

    The folders in their names are left out, so that none can lead elsewhere. What is
    there in its full size is left alone. Raises UserError for a damaged archive.
    """
    os.makedirs(folder, exist_ok=True)
    try:
        with zipfile.ZipFile(archive) as packed:
            members = [m for m in packed.infolist() if m.filename.endswith(ending)]
            total = sum(member.file_size for member in members)
            with progress_bar(
                f'unpacking {os.path.basename(archive)}', total, 'B'
            ) as bar:
                for member in members:
                    name = re.split(r'[/\\]', member.filename)[-1]
                    path = os.path.join(folder, name)
                    if size_of(path) == member.file_size:
                        bar.update(member.file_size)
                        continue
                    with packed.open(member) as source, open(path, 'wb') as target:
                        while chunk := source.read(1 << 20):
                            target.write(chunk)
                            bar.update(len(chunk))
    except (zipfile.BadZipFile, zlib.error) as error:
        raise UserError(
            f'{archive}: damaged ({error}); remove it, and run this again'
        ) from error


def is_whole_zip(path):
    """Whether a file is a zip archive, all of whose members have their checksums."""
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
