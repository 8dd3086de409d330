"""Fetch or make data sets, to folders that main.py takes as --dataset.

python download.py mnist      28x28 digits (LeCun, Cortes, Burges), to data/mnist
python download.py celebA     202,599 faces (Liu et al., 2015), to data/celebA
python download.py lsun       rooms and outdoors (Yu et al., 2015), to data/lsun
python download.py digits     70,000 drawn digits, as MNIST's; no network needed

Interrupted, it goes on where it was when run again.
"""

import argparse
import contextlib
import glob
import gzip
import hashlib
import io
import json
import os
import re
import shutil
import socket
import sys
import tempfile
import time
import zipfile
import zlib

import numpy as np
from PIL import Image, ImageDraw, ImageFont
from scipy import ndimage
from six.moves import urllib
from six.moves.http_client import HTTPException

from utils import (
    UserError,
    expand_path,
    idx_summary,
    ignore_pillow_warnings,
    one_line,
    open_picture,
    progress,
    replacing,
    write_idx,
    write_json,
)

MNIST_MIRRORS = (
    'https://ossci-datasets.s3.amazonaws.com/mnist/',
    'https://storage.googleapis.com/cvdf-datasets/mnist/',
)
MNIST_MD5 = {  # of the unpacked files
    'train-images-idx3-ubyte': '6bbc9ace898e44ae57da46a324031adb',
    'train-labels-idx1-ubyte': 'a25bea736e30d166cdddb491f175f624',
    't10k-images-idx3-ubyte': '2646ac647ad5339dbf082846283269ea',
    't10k-labels-idx1-ubyte': '27ae3e4e09519cfbb04c329615203637',
}
DRIVE = 'https://drive.google.com/uc?id='
CELEBA_PAGE = 'https://mmlab.ie.cuhk.edu.hk/projects/CelebA.html'
CELEBA = {  # name: (id on Google Drive, MD5)
    'img_align_celeba.zip': (
        '0B7EVK8r0v71pZjFTYXZWM3FlRnM',
        '00d2c5bc6d35e252742224ab0c1e8fcb',
    ),
    'list_eval_partition.txt': (
        '0B7EVK8r0v71pY0NSMzRuSXJEVkk',
        'd32c9cbf5e040fd4025c592c306e6668',
    ),
    'list_bbox_celeba.txt': (
        '0B7EVK8r0v71pbThiMVRxWXZ4dU0',
        '00566efa6fedff7a56946cd1c10f1c16',
    ),
    'list_attr_celeba.txt': (
        '0B7EVK8r0v71pblRyaVFSWGxPY0U',
        '75e246fa4810816ffd6ee81facbd244c',
    ),
}
CELEBA_PICTURES = 202599
LSUN = 'http://dl.yf.io/lsun/scenes/'
SOURCE = '.source.json'  # what an exported folder, or half of one, was made from
LSUN_CATEGORIES = (
    'bedroom',
    'bridge',
    'church_outdoor',
    'classroom',
    'conference_room',
    'dining_room',
    'kitchen',
    'living_room',
    'restaurant',
    'tower',
)
TRIES, PAUSE = 5, 1.0  # that bring nothing more; seconds after the first, then doubled
TIMEOUT = 30  # seconds in which a server has to say something
PAGE = 1 << 12  # bytes in which an HTML page shows
BUSY = (408, 429, 500, 502, 503, 504)  # HTTP's ways to say "later"


def main(args=None):
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    names = ['mnist', 'celebA', 'lsun', 'digits']
    parser.add_argument('datasets', nargs='+', choices=names)
    parser.add_argument('--data_dir', default='./data', help='where to (%(default)s)')
    parser.add_argument(
        '--mirror', help='URL that serves the files of mnist, celebA or lsun by name'
    )
    parser.add_argument(
        '--category', default='bedroom', choices=LSUN_CATEGORIES, help='of lsun'
    )
    parser.add_argument('--limit', type=int, help='at most so many pictures of lsun')
    args = parser.parse_args(args)
    if args.limit is not None and args.limit < 1:
        parser.error('--limit has to be positive')
    if args.mirror and '://' not in args.mirror:
        parser.error(
            f'--mirror {args.mirror} is no URL, it lacks a http:// or https://'
        )
    data_dir = expand_path(args.data_dir)
    for name in args.datasets:
        if name == 'mnist':
            fetch_mnist(data_dir, [args.mirror] if args.mirror else MNIST_MIRRORS)
        elif name == 'celebA':
            fetch_celeba(data_dir, args.mirror)
        elif name == 'lsun':
            fetch_lsun(data_dir, args.mirror or LSUN, args.category, args.limit)
        else:
            make_digits(data_dir)


# Files over HTTP


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
                progress(os.path.basename(url), total, 'B', size_of(to)) as bar,
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
        message = f'{error.code} {one_line(error.reason)[:300]}'
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
        raise Dropped(one_line(getattr(error, 'reason', error))[:300]) from error


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
            raise UserError(f'{url}: {one_line(error)[:300]}') from error
        raise Dropped(one_line(error)[:300]) from error
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


# Archives and folders


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
            with progress(f'unpacking {os.path.basename(archive)}', total, 'B') as bar:
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
            with progress(f'checking {os.path.basename(path)}', total, 'B') as bar:
                for member in packed.infolist():
                    with packed.open(member) as source:
                        while chunk := source.read(1 << 20):
                            bar.update(len(chunk))
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError):
        return False
    return True


def places(data_dir, name):
    """Folder of a data set, and that in which it is made ready, on the same disk."""
    folder = os.path.join(data_dir, name)
    if os.path.islink(folder):
        folder = os.path.realpath(folder)
    return folder, os.path.join(os.path.dirname(folder), f'.{name}.part')


def settle(stage, folder, *spent):
    """Make a finished folder, but for what is `spent` of it, the data set.

    What else is in the set's folder stays, unless the finished one has it.
    """
    for name in spent:
        path = os.path.join(stage, name)
        if os.path.isdir(path):
            shutil.rmtree(path)
        elif os.path.exists(path):
            os.remove(path)
    if os.path.isdir(folder):
        for name in os.listdir(folder):
            path = os.path.join(folder, name)
            if os.path.exists(os.path.join(stage, name)):
                os.remove(path)  # damaged, or it would not have been fetched again
            else:
                os.rename(path, os.path.join(stage, name))
        os.rmdir(folder)
    os.rename(stage, folder)
    print(f'{folder}: complete')


# MNIST


def fetch_mnist(data_dir, mirrors=MNIST_MIRRORS, checksums=MNIST_MD5):
    """Put the unpacked files to data_dir/mnist, all at once; checksums: {name: MD5}.

    Files that are there and whole are left alone. `mirrors` are URLs, tried in turn.
    """
    folder, stage = places(data_dir, 'mnist')
    for name, md5 in checksums.items():
        paths = [os.path.join(place, name) for place in (folder, stage)]
        there = [p for p in paths if os.path.exists(p) and md5_of_file(p) == md5]
        if there:
            print(f'{there[0]}: already there')
            continue
        packed = obtain(
            f'{name}.gz',
            [stage, data_dir, folder],
            urls=[f'{mirror.rstrip("/")}/{name}.gz' for mirror in mirrors],
            is_right=lambda path, md5=md5: md5_of_unpacked(path) == md5,
            by_hand='try --mirror with a URL that serves them, or put '
            f'{", ".join(f"{name}.gz" for name in checksums)} in {data_dir}',
        )
        with (
            gzip.open(packed) as source,
            replacing(os.path.join(stage, name)) as temporary,
            open(temporary, 'wb') as target,
        ):
            shutil.copyfileobj(source, target)
    if os.path.isdir(stage):
        settle(stage, folder, *(f'{name}.gz' for name in checksums))


def md5_of_unpacked(path):
    """MD5 of what a .gz file holds, or None where it is none or damaged."""
    try:
        with gzip.open(path) as file:
            return md5_of(file)
    except (OSError, EOFError, zlib.error):
        return None


# CelebA


def fetch_celeba(data_dir, mirror=None, files=CELEBA, pictures=CELEBA_PICTURES):
    """Put the aligned pictures, all at once, and the lists to data_dir/celebA.

    From Google Drive or, by name, from the URL `mirror`; files: {name: (id, MD5)}, the
    archive first. Raises UserError where one cannot be had, or the folder holds another
    number of pictures.
    """
    folder, stage = places(data_dir, 'celebA')
    archive, *lists = files

    def get(name, folders):
        drive_id, md5 = files[name]
        return obtain(
            name,
            folders,
            urls=[f'{mirror.rstrip("/")}/{name}' if mirror else f'{DRIVE}{drive_id}'],
            is_right=lambda path: md5_of_file(path) == md5,
            by_hand=f'or fetch it by hand: open {DRIVE}{drive_id} or {CELEBA_PAGE} '
            f'in a browser, put {name} in {data_dir}, and run this again',
        )

    there = count_pictures(folder)
    if there == pictures:
        print(f'{folder}: its pictures are already there')
    elif there:
        raise UserError(
            f'{folder}: holds {there:,} pictures, and CelebA has {pictures:,}; '
            'move it, or use --data_dir'
        )
    else:
        path = get(archive, [stage, data_dir, folder])
        unpack(path, stage, '.jpg')
        if count_pictures(stage) != pictures:
            raise UserError(f'{path}: has not the {pictures:,} pictures of CelebA')
        settle(stage, folder, archive)
    for name in lists:
        get(name, [folder, data_dir])


def count_pictures(folder):
    """How many *.jpg a folder has; none if it is not there."""
    names = os.listdir(folder) if os.path.isdir(folder) else []
    return sum(name.endswith('.jpg') for name in names)


# LSUN


def fetch_lsun(data_dir, mirror=LSUN, category='bedroom', limit=None):
    """Export a category, training and validation part, to data_dir/lsun.

    At most `limit` pictures, from archives at the URL `mirror`; recorded in the folder.
    Raises UserError where one cannot be had, or the folder holds something else.
    """
    try:
        import lmdb
    except ImportError as error:
        raise UserError('lsun needs a package more: pip install lmdb') from error
    folder, stage = places(data_dir, 'lsun')
    source = {'category': category, 'limit': limit}
    if os.path.isdir(folder) and os.listdir(folder):
        if read_source(folder).items() >= source.items():
            print(f'{folder}: already there')
            return
        raise UserError(
            f'{folder}: holds something else than {limit or "all"} pictures of '
            f'{category}; move it, or use --data_dir'
        )
    os.makedirs(stage, exist_ok=True)
    if not read_source(stage).items() >= source.items():
        for path in glob.glob(os.path.join(glob.escape(stage), '*.jpg')):
            os.remove(path)  # of another category or limit; archives are good for all
    done = read_source(stage).get('done', []) if count_pictures(stage) else []
    spent = []
    for part in ('train', 'val'):
        name, database = f'{category}_{part}_lmdb.zip', f'.{category}_{part}'
        spent += [name, database]
        if part in done or (limit and count_pictures(stage) >= limit):
            continue
        archive = obtain(
            name,
            [stage, data_dir],
            urls=[f'{mirror.rstrip("/")}/{name}'],
            is_right=is_whole_zip,
            by_hand=f'try --mirror with a URL that serves {name}, or put it in '
            f'{data_dir}',
        )
        unpack(archive, os.path.join(stage, database), 'data.mdb')
        write_json(os.path.join(stage, SOURCE), {**source, 'done': done})
        try:
            path = os.path.join(stage, database)
            with lmdb.open(path, readonly=True, lock=False) as environment:
                export(environment, stage, limit)
        except lmdb.Error as error:
            raise UserError(f'{archive}: not a database of LSUN ({error})') from error
        done = [*done, part]
        write_json(os.path.join(stage, SOURCE), {**source, 'done': done})
    settle(stage, folder, *spent)


def read_source(folder):
    """What was recorded of a folder's origin: {} where there is no record."""
    try:
        with open(os.path.join(folder, SOURCE), encoding='utf-8') as file:
            return json.load(file)
    except (OSError, ValueError):
        return {}


def export(environment, folder, limit):
    """Write what an LMDB environment holds to folder/{key}.jpg, up to `limit` files.

    LSUN's are WebP, which becomes JPEG of quality 95; what is JPEG is left as it is.
    Names what cannot be decoded, and leaves it out.
    """
    there = count_pictures(folder)
    with environment.begin() as transaction:
        entries = transaction.stat()['entries']
        with progress(folder, min(entries, limit or entries), ' pictures') as bar:
            for key, content in transaction.cursor():
                if limit and there >= limit:
                    break
                bar.update()
                name = re.sub(r'[^\w-]', '_', key.decode(errors='replace'))
                path = os.path.join(folder, f'{name}.jpg')
                if os.path.exists(path):
                    continue
                try:
                    content = as_jpeg(content)
                except UserError as error:
                    print(f' [!] Left out {name}: {error}', flush=True)
                    continue
                with replacing(path) as temporary, open(temporary, 'wb') as file:
                    file.write(content)
                there += 1


def as_jpeg(content):
    """The bytes of a picture as those of a JPEG file. UserError where they are none."""
    if content.startswith(b'\xff\xd8'):
        return content
    jpeg = io.BytesIO()
    open_picture(io.BytesIO(content)).save(jpeg, 'JPEG', quality=95)
    return jpeg.getvalue()


# Digits


def make_digits(data_dir, counts=(60000, 10000), seed=0):
    """Draw a stand-in for MNIST to data_dir/digits, in its files, sizes and numbers.

    White on black, 28x28, labelled by the digit; the same on every run.
    """
    folder = os.path.join(data_dir, 'digits')
    if idx_summary(folder):
        print(f'{folder}: already there')
        return
    if os.path.exists(folder) and os.listdir(folder):
        raise UserError(f'{folder}: holds something else; move it, or use --data_dir')
    os.makedirs(data_dir, exist_ok=True)
    rng = np.random.RandomState(seed)
    labels = rng.randint(0, 10, sum(counts)).astype(np.uint8)
    images = np.empty((len(labels), 28, 28), np.uint8)
    glyphs = np.stack([glyph_distances(digit) for digit in range(10)])
    with progress('digits', len(labels), ' pictures') as bar:
        for start in range(0, len(labels), 250):
            chunk = slice(start, start + 250)
            images[chunk] = draw_digits(glyphs, labels[chunk], rng)
            bar.update(len(labels[chunk]))

    with tempfile.TemporaryDirectory(dir=data_dir, prefix='.digits-') as temporary:
        made = os.path.join(temporary, 'digits')
        for name, part in (
            ('train', slice(counts[0])),
            ('t10k', slice(counts[0], None)),
        ):
            prefix = os.path.join(made, name)
            write_idx(f'{prefix}-images-idx3-ubyte', images[part])
            write_idx(f'{prefix}-labels-idx1-ubyte', labels[part])
        try:
            os.rename(made, folder)  # the set is there whole, or not at all
        except OSError:
            if not idx_summary(folder):
                raise
            print(f'{folder}: already there')  # another process was faster
            return
    print(f'digits: written to {folder}')


def glyph_distances(digit):
    """Distance inside a digit of each of 160x160 points (minus: outside), in points.

    The digit is drawn in Pillow's own font, 80 points high. Four points make a pixel of
    the pictures, in which it is 20 pixels high, as in MNIST.
    """
    canvas = Image.new('L', (160, 160))
    font = ImageFont.load_default(112)
    ImageDraw.Draw(canvas).text((80, 80), str(digit), 255, font, anchor='mm')
    ink = np.asarray(canvas) > 127
    inside, outside = map(ndimage.distance_transform_edt, (ink, ~ink))
    return inside - outside


def draw_digits(glyphs, labels, rng):
    """Draw a digit for each label [n], every one different: uint8 [n, 28, 28].

    Each pixel asks `glyphs`, [10, 160, 160] of `glyph_distances`, at a point that is
    moved, bent elastically (Simard et al., 2003), turned, slanted and scaled; how deep
    that is in the stroke, less or more a random thickness, makes its ink.
    """
    n = len(labels)

    def uniform(low, high):
        return rng.uniform(low, high, n)[:, None, None]

    y, x = np.mgrid[0:28, 0:28] - 13.5
    noise = rng.uniform(-1, 1, (2, n, 28, 28))
    bend = ndimage.gaussian_filter(noise, (0, 0, 4.5, 4.5), mode='wrap')
    bend /= 0.036  # its deviation, so that it becomes 1
    bend *= uniform(0, 1.2)  # pixels
    y, x = y - uniform(-1.5, 1.5) + bend[0], x - uniform(-1.5, 1.5) + bend[1]
    angle = uniform(-0.2, 0.2)  # radians
    y, x = np.cos(angle) * y - np.sin(angle) * x, np.sin(angle) * y + np.cos(angle) * x
    x = x + uniform(-0.1, 0.35) * y  # slant
    size, width = uniform(0.85, 1.1), np.exp(uniform(-0.2, 0.2))
    y, x = y / size, x / (size * width)
    glyph = np.broadcast_to(labels[:, None, None], y.shape)
    depth = ndimage.map_coordinates(
        glyphs, (glyph, 4 * y + 79.5, 4 * x + 79.5), order=1, mode='nearest'
    )
    ink = (depth / 4 * size + uniform(-0.45, 0.8)) * 1.1 + 0.5
    return (ink.clip(0, 1) * uniform(170, 255) + 0.5).astype(np.uint8)


if __name__ == '__main__':
    ignore_pillow_warnings()
    try:
        main()
    except (UserError, OSError) as error:
        sys.exit(f'download.py: {error}')
    except KeyboardInterrupt:
        print('download.py: interrupted; run it again to go on', file=sys.stderr)
        sys.exit(130)
