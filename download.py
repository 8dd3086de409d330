"""Fetch or make data sets, to folders that main.py takes as --dataset.

python download.py mnist      28x28 digits (LeCun, Cortes, Burges), to data/mnist
python download.py celebA     202,599 faces (Liu et al., 2015), to data/celebA
python download.py lsun       rooms and outdoors (Yu et al., 2015), to data/lsun
python download.py digits     70,000 drawn digits, as MNIST's; no network needed

Interrupted, it goes on where it was when run again.
"""

import argparse
import gzip
import hashlib
import io
import json
import os
import re
import shutil
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
    """Have a file for which is_right(path) holds, from a folder or one of the URLs.

    What is in one of the folders, perhaps fetched by hand, is checked, and left alone
    if it is wrong. Otherwise the URLs are tried in turn, to the first folder; until it
    is right the file is called `name`.part, with which an interrupted fetch goes on.
    Returns (its path, whether it was fetched). Raises UserError where there is none;
    `by_hand` says what else can be done.
    """
    for path in (os.path.join(folder, name) for folder in folders):
        if os.path.exists(path):
            problem = what_is_wrong(path, is_right)
            if problem:
                raise UserError(f'{path}: {problem}; remove it, then {by_hand}')
            print(f'{path}: already there')
            return path, False
    path, failures = os.path.join(folders[0], name), []
    os.makedirs(folders[0], exist_ok=True)
    for url in urls:
        try:
            fetch_right(url, f'{path}.part', is_right)
        except UserError as error:
            failures.append(str(error))
        else:
            os.replace(f'{path}.part', path)
            return path, True
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
        start = file.read(1 << 16).lower()
    if start.lstrip().startswith((b'<!doctype html', b'<html')):
        return f'an HTML page in its place, {page_reason(start)}'
    if not is_right(path):
        return f'damaged or not what it should be ({os.path.getsize(path):,} bytes)'
    return None


def page_reason(page):
    """Why a server may have sent this page, lower case, and not the file."""
    if b'quota' in page or b'too many users' in page:
        return "as Google Drive's quota for it is used up; try again in a day"
    if b'virus' in page:
        return 'as Google Drive asks to confirm large files'
    if b'sign in' in page or b'log in' in page or b'login' in page:
        return 'as it wants a login'
    return 'likely the message of a dead link or a proxy'


def fetch(url, part):
    """Fetch a URL to the file `part`, going on from what is there, through breaks.

    Raises UserError where the server refuses, or several tries bring nothing more.
    """
    if url.startswith(DRIVE):
        return fetch_from_drive(url, part)
    tries, most = 0, size_of(part)
    while True:
        try:
            return fetch_rest(url, part)
        except Dropped as error:
            tries = tries + 1 if size_of(part) <= most else 1
            most = max(most, size_of(part))
            if tries == TRIES:
                raise UserError(f'{url}: {error}, {tries} times') from error
            pause = PAUSE * 2 ** (tries - 1)
            print(f'{url}: {error}; again in {pause:.0f} s', flush=True)
            time.sleep(pause)


def fetch_rest(url, part):
    """Ask once for what `part` lacks, or for all if the server knows no parts."""
    done = size_of(part)
    headers = {'User-Agent': 'DCGAN', 'Range': f'bytes={done}-'}
    if not done:
        del headers['Range']
    try:
        request = urllib.request.Request(url, headers=headers)
        response = from_network(urllib.request.urlopen, request, timeout=TIMEOUT)
    except urllib.error.HTTPError as error:
        if error.code == 416 and done:
            return  # there is no more: `part` is whole, or wrong, which a check tells
        if error.code in BUSY:
            raise Dropped(f'{error.code} {error.reason}') from error
        raise UserError(f'{url}: {error.code} {error.reason}') from error
    except ValueError as error:
        raise UserError(f'{url}: {error}') from error
    with response:
        span = re.match(r'bytes (\d+)-', response.headers.get('Content-Range', ''))
        goes_on = response.status == 206 and span and int(span[1]) == done
        if response.status == 206 and not goes_on:
            os.remove(part)
            raise Dropped('sent another part than was asked for')
        start = done if goes_on else 0
        length = response.headers.get('Content-Length')
        total = start + int(length) if length else None
        with (
            open(part, 'ab' if goes_on else 'wb') as file,
            progress(os.path.basename(url), total, 'B', start) as bar,
        ):
            while chunk := from_network(response.read, 1 << 16):
                file.write(chunk)
                bar.update(len(chunk))
    if total and size_of(part) < total:
        raise Dropped(f'broke off after {size_of(part):,} of {total:,} bytes')


def from_network(call, *args, **kwargs):
    """Call something that can fail for want of a connection: then raise Dropped."""
    try:
        return call(*args, **kwargs)
    except urllib.error.HTTPError:
        raise
    except (OSError, HTTPException) as error:
        raise Dropped(str(getattr(error, 'reason', error))) from error


def fetch_from_drive(url, part):
    """Fetch a file of Google Drive to `part`, with the gdown package."""
    try:
        import gdown
    except ImportError as error:
        raise UserError(
            f'{url}: Google Drive needs a package more: pip install gdown'
        ) from error
    try:
        path = gdown.download(url, part, resume=True)
    except Exception as error:  # gdown's, or those of what it uses
        raise UserError(f'{url}: {" ".join(str(error).split())}') from error
    if path is None:
        raise UserError(f'{url}: gdown could not fetch it')


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


def settle(stage, folder):
    """Make a finished folder the data set; what else is in the set's folder stays."""
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
    folder, stage = (os.path.join(data_dir, name) for name in ('mnist', '.mnist.part'))
    for name, md5 in checksums.items():
        paths = [os.path.join(place, name) for place in (folder, stage)]
        there = [p for p in paths if os.path.exists(p) and md5_of_file(p) == md5]
        if there:
            print(f'{there[0]}: already there')
            continue
        packed, fetched = obtain(
            f'{name}.gz',
            [stage, data_dir, folder],
            [f'{mirror.rstrip("/")}/{name}.gz' for mirror in mirrors],
            lambda path, md5=md5: md5_of_unpacked(path) == md5,
            f'try --mirror with a URL that serves {name}.gz, or put it in {data_dir}',
        )
        with (
            gzip.open(packed) as source,
            replacing(os.path.join(stage, name)) as temporary,
            open(temporary, 'wb') as target,
        ):
            shutil.copyfileobj(source, target)
        if fetched:
            os.remove(packed)
    if os.path.isdir(stage):
        settle(stage, folder)


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
    folder, stage = (
        os.path.join(data_dir, name) for name in ('celebA', '.celebA.part')
    )
    for name, (drive_id, md5) in files.items():
        url = f'{mirror.rstrip("/")}/{name}' if mirror else f'{DRIVE}{drive_id}'
        how = (
            [url],
            lambda path, md5=md5: md5_of_file(path) == md5,
            f'fetch it by hand: open {DRIVE}{drive_id} or {CELEBA_PAGE} in a browser, '
            f'put {name} in {data_dir}, and run this again',
        )
        if not name.endswith('.zip'):
            obtain(name, [folder, data_dir], *how)
            continue
        there = count_pictures(folder)
        if there == pictures:
            print(f'{folder}: its pictures are already there')
            continue
        if there:
            raise UserError(
                f'{folder}: holds {there:,} pictures, and CelebA has {pictures:,}; '
                'move it, or use --data_dir'
            )
        archive, fetched = obtain(name, [data_dir, folder, stage], *how)
        unpack(archive, stage, '.jpg')
        if count_pictures(stage) != pictures:
            raise UserError(f'{archive}: has not the {pictures:,} pictures of CelebA')
        settle(stage, folder)
        if fetched:
            os.remove(archive)


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
    folder, stage = (os.path.join(data_dir, name) for name in ('lsun', '.lsun.part'))
    source = {'category': category, 'limit': limit}
    if os.path.exists(folder):
        if read_source(folder).items() >= source.items():
            print(f'{folder}: already there')
            return
        raise UserError(
            f'{folder}: holds something else than {limit or "all"} pictures of '
            f'{category}; move it, or use --data_dir'
        )
    if not read_source(stage).items() >= source.items():
        shutil.rmtree(stage, ignore_errors=True)
    done = read_source(stage).get('done', [])
    for part in ('train', 'val'):
        if part in done or (limit and count_pictures(stage) >= limit):
            continue
        name, database = f'{category}_{part}_lmdb.zip', os.path.join(stage, f'.{part}')
        archive, fetched = obtain(
            name,
            [data_dir],
            [f'{mirror.rstrip("/")}/{name}'],
            is_whole_zip,
            f'try --mirror with a URL that serves {name}, or put it in {data_dir}',
        )
        unpack(archive, database, 'data.mdb')
        write_json(os.path.join(stage, SOURCE), {**source, 'done': done})
        try:
            with lmdb.open(database, readonly=True, lock=False) as environment:
                export(environment, stage, limit)
        except lmdb.Error as error:
            raise UserError(f'{archive}: not a database of LSUN ({error})') from error
        done = [*done, part]
        write_json(os.path.join(stage, SOURCE), {**source, 'done': done})
        shutil.rmtree(database)
        if fetched:
            os.remove(archive)
    settle(stage, folder)


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
        os.rename(made, folder)  # the set is there whole, or not at all
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
    try:
        main()
    except (UserError, OSError) as error:
        sys.exit(f'download.py: {error}')
    except KeyboardInterrupt:
        print('download.py: interrupted; run it again to go on', file=sys.stderr)
        sys.exit(130)
