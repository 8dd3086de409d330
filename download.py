"""Fetch or make data sets, to folders that main.py takes as --dataset.

python download.py mnist      28x28 digits (LeCun, Cortes, Burges), to data/mnist
python download.py celebA     202,599 faces (Liu et al., 2015), to data/celebA
python download.py lsun       rooms and outdoors (Yu et al., 2015), to data/lsun
python download.py digits     70,000 drawn digits, as MNIST's; no network needed

Interrupted, it goes on where it was when run again.
"""

import argparse
import glob
import gzip
import io
import json
import os
import re
import shutil
import sys
import zlib

from dcgan import transfers
from dcgan.digits import make_digits
from dcgan.errors import UserError
from dcgan.files import atomic_path, expand_path, progress_bar, write_json
from dcgan.images import ignore_pillow_warnings, open_image
from dcgan.transfers import is_whole_zip, md5_of, md5_of_file, obtain, unpack

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


# Archives and folders


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
            atomic_path(os.path.join(stage, name)) as temporary,
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
            urls=[
                f'{mirror.rstrip("/")}/{name}'
                if mirror
                else f'{transfers.DRIVE}{drive_id}'
            ],
            is_right=lambda path: md5_of_file(path) == md5,
            by_hand=f'or fetch it by hand: open {transfers.DRIVE}{drive_id} or '
            f'{CELEBA_PAGE} in a browser, put {name} in {data_dir}, and run this again',
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
        with progress_bar(folder, min(entries, limit or entries), ' pictures') as bar:
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
                with atomic_path(path) as temporary, open(temporary, 'wb') as file:
                    file.write(content)
                there += 1


def as_jpeg(content):
    """The bytes of a picture as those of a JPEG file. UserError where they are none."""
    if content.startswith(b'\xff\xd8'):
        return content
    jpeg = io.BytesIO()
    open_image(io.BytesIO(content)).save(jpeg, 'JPEG', quality=95)
    return jpeg.getvalue()


# Digits


if __name__ == '__main__':
    ignore_pillow_warnings()
    try:
        main()
    except (UserError, OSError) as error:
        sys.exit(f'download.py: {error}')
    except KeyboardInterrupt:
        print('download.py: interrupted; run it again to go on', file=sys.stderr)
        sys.exit(130)
