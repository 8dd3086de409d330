"""Download or draw data sets, into folders that main.py finds by --dataset.

python download.py mnist      28x28 digits (LeCun, Cortes, Burges), to data/mnist
python download.py fashion    28x28 clothes (Xiao et al., 2017), to data/fashion
python download.py cifar10    32x32 photographs (Krizhevsky, 2009), to data/cifar10
python download.py svhn       32x32 house numbers (Netzer et al., 2011), to data/svhn
python download.py celebA     202,599 faces (Liu et al., 2015), to data/celebA
python download.py lsun       rooms and outdoors (Yu et al., 2015), to data/lsun
python download.py digits     70,000 drawn digits in place of MNIST; no network needed
python download.py inception  the network that FID uses, to data/inception
python download.py check NAME   decode all images of data/NAME; name the unusable ones

An interrupted download continues where it stopped when the command is run again.
"""

import argparse
import contextlib
import gzip
import hashlib
import io
import json
import os
import re
import sys
import tarfile
from collections.abc import Collection, Iterable
from pathlib import Path

from dcgan.data.dataset import INCEPTION, open_dataset
from dcgan.data.digits import MOVE_AWAY, make_digits
from dcgan.data.find_images import class_folders, glob_images
from dcgan.data.idx import ArraySet
from dcgan.data.images import MAX_PIXELS, ignore_pillow_warnings, open_image
from dcgan.data.resumable_download import DRIVE, find_or_download, has_digest, unpack
from dcgan.util.cores import usable_cores
from dcgan.util.errors import UserError, printable
from dcgan.util.files import (
    expand_path,
    glob_files,
    opening,
    read_file,
    remove,
    require_writable,
    write_bytes,
    write_errors,
    write_json,
)
from dcgan.util.output import print_line
from dcgan.util.progress import progress_bar

DIGESTS = json.loads((Path(__file__).parent / 'dcgan/data/digests.json').read_text())
# {name of a file: digest}; of CelebA, an ID on Google Drive, too
CELEBA_FILES, LSUN_SHA256 = map(DIGESTS.get, ('celebA', 'lsun'))
FILES = DIGESTS['files']  # {data set: {what is downloaded: {file in it: MD5}}}
INSTALLED = {'fashion': '/usr/share/datasets/fashion-mnist'}  # by a package of Debian
CELEBA_PAGE = 'https://mmlab.ie.cuhk.edu.hk/projects/CelebA.html'
CELEBA_IMAGES = 202599
EXPORT_RECORD = '.source.json'  # records what the images of an lsun folder come from
LSUN_CATEGORIES = re.findall(r'(\w+)_train_lmdb', ' '.join(LSUN_SHA256))
INCEPTION_ARCHIVE = 'inception-2015-12-05.tgz'
MAX_UNPACKED = 1 << 28  # bytes of a file or an archive that is unpacked in memory
DATASETS = (*FILES, 'celebA', 'lsun', 'digits', 'inception')
# fmt: off
ARGUMENTS = {
    'datasets': dict(
        nargs='+', metavar='NAME',
        help='one or more of these names; after "check", the names of folders'),
    '--data_dir': dict(
        default='./data', help='folder in which each data set gets its own folder '
        '(default: %(default)s)'),
    '--mirror': dict(
        help='URL of a server that has the files of a data set under their original '
        'names (default: the official servers)'),
    '--category': dict(
        default='bedroom', choices=LSUN_CATEGORIES,
        help='category of lsun to download (default: %(default)s)'),
    '--limit': dict(
        type=int, help='maximum number of lsun images to export (default: all)'),
    '--max_pixels': dict(
        type=int, default=MAX_PIXELS, help='for "check": pixels of an image file, at '
        'most (default: %(default)s)'),
    '--input_fname_pattern': dict(
        help='for "check": only the files that match this glob, such as **/*.png'),
}
# fmt: on


def main(args: list[str] | None = None) -> None:
    """Run the command line `args`; None: the command line of the process."""
    args = parse_arguments(args)
    data_dir = expand_path(args.data_dir)
    if args.datasets[0] == 'check':
        check_sets(data_dir, args)
        return
    require_writable(data_dir, 'choose another --data_dir')
    given = [f'{args.mirror.rstrip("/")}/'] if args.mirror else []
    for name in args.datasets:
        mirrors = given or DIGESTS['mirrors'].get(name, [])
        if name in FILES:
            fetch_files(data_dir, name, mirrors)
        elif name == 'celebA':
            fetch_celeba(data_dir, mirrors)
        elif name == 'inception':
            fetch_inception(data_dir, mirrors)
        elif name == 'lsun':
            fetch_lsun(data_dir, mirrors, args.category, args.limit)
        else:
            make_digits(data_dir)


def parse_arguments(args: list[str] | None) -> argparse.Namespace:
    """Parse the command line. Ends the process if it is invalid."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    for name, options in ARGUMENTS.items():
        parser.add_argument(name, **options)
    args, others = parser.parse_known_intermixed_args(args)
    if others:
        parser.error(f'{printable(others[0])} is no argument')
    unknown = [name for name in args.datasets if name not in DATASETS]
    if args.datasets == ['check']:
        parser.error('check: which data set? Give the name of its folder')
    if unknown and args.datasets[0] != 'check':
        parser.error(f'{unknown[0]!r} is none of {", ".join(DATASETS)}')
    if args.limit is not None and args.limit < 1:
        parser.error('--limit must be positive')
    if args.mirror and '://' not in args.mirror:
        problem = 'is not a URL: it must begin with http:// or https://'
        parser.error(f'--mirror {printable(args.mirror)} {problem}')
    return args


def check_sets(data_dir: str, args: argparse.Namespace) -> None:
    """Check data sets. Raises UserError at the end if training would refuse one."""
    bad_sets = []
    for name in args.datasets[1:]:
        try:
            folder = os.path.normpath(os.path.join(data_dir, name))
            check_set(folder, args.input_fname_pattern, args.max_pixels)
        except UserError as error:
            print_line(f' [!] {printable(error)}')
            bad_sets.append(name)
    if bad_sets:
        raise UserError(f'training would end on {", ".join(bad_sets)}, see above')


def check_set(folder: str, pattern: str | None, max_pixels: int) -> None:
    """Decode all images of a folder, or of its class folders if there is no pattern.

    Prints or lists which cannot be used. UserError if training would refuse the set.
    """
    by_class = not pattern and not glob_images(folder) and bool(class_folders(folder))
    sizes = (8, 8), (8, 8)
    options = {'num_workers': usable_cores(), 'max_pixels': max_pixels}
    data = open_dataset(folder, pattern, *sizes, False, False, by_class, **options)
    if isinstance(data, ArraySet):
        print_line(f' [*] {folder}: {data.contents}, all can be used')
        return
    path = f'{folder}.unusable.txt'
    if not os.access(os.path.dirname(path), os.W_OK):
        path = os.path.basename(path)
    remove(path)  # of an earlier check
    data.find_unusable()
    if not data.unusable:
        print_line(f' [*] {folder}: all {len(data)} images can be used')
        return
    line = data.name_unusable(path)
    if len(data.unusable) > data.tolerated:
        raise UserError(f'{folder}: {line}')
    print_line(f' [!] {folder}: {line}')


def dataset_and_staging_folders(data_dir: str, name: str) -> tuple[str, str]:
    """A data set's folder and the folder in which it is prepared, on the same disk."""
    folder = os.path.join(data_dir, name)
    if os.path.islink(folder):  # to another disk, perhaps
        folder = os.path.realpath(folder)
    return folder, os.path.join(os.path.dirname(folder), f'.{name}.part')


def publish_folder(staging: str, folder: str, *intermediates: str) -> None:
    """Move a complete staging folder, without `intermediates`, to the data set's."""
    for name in intermediates:
        remove(os.path.join(staging, name))
    if os.path.isdir(folder):
        for name in {*os.listdir(folder)} - {*os.listdir(staging)}:
            os.rename(os.path.join(folder, name), os.path.join(staging, name))
        remove(folder)  # corrupt files: valid ones are not downloaded again
    os.rename(staging, folder)
    print_line(f'{folder}: complete')


def fetch_files(data_dir: str, name: str, mirrors: Iterable[str]) -> None:
    """Download a data set of FILES to data_dir/name, which appears when complete.

    `mirrors` are URLs of folders, with a slash at the end. Valid files that exist are
    kept. Raises UserError if a download fails.
    """
    folder, staging = dataset_and_staging_folders(data_dir, name)
    # Fashion-MNIST's files have the names of MNIST's, which may be in data_dir
    by_hand = [folder, INSTALLED[name]] if name in INSTALLED else [data_dir, folder]
    for archive, digests in FILES[name].items():
        paths = [os.path.join(folder, file) for file in digests]
        if all(map(has_digest, paths, digests.values())):
            for path in paths:
                print_line(f'{path}: already there')
            continue

        def is_valid(path, archive=archive, digests=digests):
            found = unpacked(path, archive, digests)
            md5 = {f: hashlib.md5(x, usedforsecurity=False) for f, x in found.items()}
            return {f: digest.hexdigest() for f, digest in md5.items()} == digests

        found = find_or_download(
            archive,
            [staging, *by_hand],
            urls=[mirror + archive for mirror in mirrors],
            is_valid=is_valid,
            advice='try --mirror with another URL, or put '
            f'{", ".join(FILES[name])} in {by_hand[0]}',
        )
        for file, content in unpacked(found, archive, digests).items():
            write_bytes(os.path.join(staging, file), content)
    if os.path.isdir(staging):
        files = {file for digests in FILES[name].values() for file in digests}
        publish_folder(staging, folder, *(FILES[name].keys() - files))


def fetch_celeba(data_dir: str, mirrors: Iterable[str]) -> None:
    """Download CelebA to data_dir/celebA, without mirrors from Google Drive.

    Raises UserError if that fails, or if the folder holds other images.
    """
    folder, staging = dataset_and_staging_folders(data_dir, 'celebA')
    count = len(glob_files(folder, '*.jpg'))
    if count == CELEBA_IMAGES:
        print_line(f'{folder}: the images are already there')
    elif count:
        problem = f'holds {count:,} images, but CelebA has {CELEBA_IMAGES:,}'
        raise UserError(f'{folder}: {problem}; {MOVE_AWAY}')
    for name, (drive_id, md5) in CELEBA_FILES.items():
        is_archive = name.endswith('.zip')
        if is_archive and count:
            continue
        drive_url = f'{DRIVE}{drive_id}'
        path = find_or_download(
            name,
            [staging, data_dir, folder] if is_archive else [folder, data_dir],
            urls=[mirror + name for mirror in mirrors] or [drive_url],
            is_valid=lambda path, md5=md5: has_digest(path, md5),
            advice=f'download it by hand: open {drive_url} or {CELEBA_PAGE} in a '
            f'browser, put {name} in {data_dir}, and run this again',
        )
        if is_archive:
            unpack(path, staging, '.jpg')
            publish_folder(staging, folder, name)


def fetch_lsun(
    data_dir: str, mirrors: Iterable[str], category: str, limit: int | None
) -> None:
    """Download a category of LSUN and export its images to data_dir/lsun.

    The training part comes first, then the validation part, at most `limit` images in
    all. Raises UserError if a download fails, or the folder holds other images.
    """
    try:
        import lmdb
    except ImportError as error:
        raise UserError('lsun needs the lmdb package: pip install lmdb') from error
    folder, staging = dataset_and_staging_folders(data_dir, 'lsun')
    source = {'category': category, 'limit': limit}
    if os.path.isdir(folder) and os.listdir(folder):
        if holds_export(folder, source):
            print_line(f'{folder}: already there')
            return
        problem = f'holds something other than {limit or "all"} images of {category}'
        raise UserError(f'{folder}: {problem}; {MOVE_AWAY}')
    if not holds_export(staging, source):
        for path in glob_files(staging, '*.jpg'):
            os.remove(path)  # of another category or limit; archives are used again
    intermediates = []
    for part in ('train', 'val'):
        name, database = f'{category}_{part}_lmdb.zip', f'.{category}_{part}'
        intermediates += [name, database]
        if limit and len(glob_files(staging, '*.jpg')) >= limit:
            continue
        path = os.path.join(staging, database)
        archive = find_or_download(
            name,
            [staging, data_dir],
            urls=[mirror + name for mirror in mirrors],
            is_valid=lambda file, name=name, to=path: (
                has_digest(file, LSUN_SHA256[name]) and unpack(file, to, 'data.mdb')
            ),
            advice=f'try --mirror with another URL, or put {name} in {data_dir}',
        )
        write_json(os.path.join(staging, EXPORT_RECORD), source)
        advice, problem = 'remove it and try again', 'not an LSUN database'
        with (
            write_errors(archive, lmdb.Error, advice, problem),
            lmdb.open(path, readonly=True, lock=False) as environment,
        ):
            export_images(environment, staging, limit)
    publish_folder(staging, folder, *intermediates)


def holds_export(folder: str, source: dict) -> bool:
    """Whether a folder has the record of an export of this category and limit."""
    path = os.path.join(folder, EXPORT_RECORD)
    with contextlib.suppress(UserError):
        record = read_file(path, lambda content: {**json.loads(content)}, most=1 << 20)
        return record.items() >= source.items()
    return False


def export_images(environment, folder: str, limit: int | None) -> None:
    """Write the images that are new and readable to folder/{key}.jpg, up to `limit`."""
    count = len(glob_files(folder, '*.jpg'))
    total = environment.stat()['entries']
    with (
        environment.begin() as transaction,
        progress_bar(folder, min(total, limit or total), ' images') as bar,
    ):
        for key in transaction.cursor().iternext(values=False):
            if limit and count >= limit:
                break
            bar.update()
            name = re.sub(r'[^\w-]', '_', key.decode(errors='replace'))
            path = os.path.join(folder, f'{name}.jpg')
            if os.path.exists(path):
                continue
            content = transaction.get(key)
            if not content.startswith(b'\xff\xd8'):  # not JPEG, but WebP
                jpeg = io.BytesIO()
                try:
                    open_image(io.BytesIO(content)).save(jpeg, 'JPEG', quality=95)
                except UserError as error:
                    print_line(f' [!] Left out {name}: {error}')
                    continue
                content = jpeg.getvalue()
            write_bytes(path, content)
            count += 1


def fetch_inception(data_dir: str, mirrors: Iterable[str]) -> None:
    """Download the graph of Inception, which FID uses, to data_dir/inception.

    An archive or a graph that exists is used. Raises UserError if the download fails.
    """
    path = os.path.join(data_dir, INCEPTION)
    folder, name = os.path.split(path)
    if os.path.exists(path):
        print_line(f'{path}: already there')
        return
    _, staging = dataset_and_staging_folders(data_dir, 'inception')
    record = f'{path}.sha256'  # no digest is published

    def is_first_download(archive):
        content = unpacked(archive, INCEPTION_ARCHIVE, [name]).get(name)
        if not content:
            return False
        digest = hashlib.sha256(content).hexdigest().encode()
        if not os.path.exists(record):
            write_bytes(record, digest)
        return read_file(record, bytes.strip) == digest

    archive = find_or_download(
        INCEPTION_ARCHIVE,
        [staging, data_dir, folder],
        urls=[mirror + INCEPTION_ARCHIVE for mirror in mirrors],
        is_valid=is_first_download,
        advice=f'try --mirror with another URL, or put {name} in {folder}; {record}, '
        'where it exists, is of the first download: remove it to take another one',
    )
    write_bytes(path, unpacked(archive, INCEPTION_ARCHIVE, [name])[name])
    remove(staging)
    print_line(f'{path}: complete')


def unpacked(path: str, name: str, files: Collection[str]) -> dict[str, bytes]:
    """{file: content} of those in a .tgz, .gz or plain file, by `name`."""
    contents = {}
    with contextlib.suppress(UserError), opening(path) as file:
        # as a whole, since headers of archives announce how much is to be read
        packed = gzip.GzipFile(fileobj=file) if name.endswith('gz') else file
        content = packed.read(MAX_UNPACKED)
        if not name.endswith(('.tgz', '.tar.gz')):
            return dict.fromkeys(files, content)
        with tarfile.open(fileobj=io.BytesIO(content), mode='r:') as archive:
            for _, member in zip(range(1000), archive):
                if member.issparse() or not 0 <= member.size <= len(content):
                    raise ValueError(f'{member.name} announces {member.size} bytes')
                base = os.path.basename(member.name)
                if base in files and member.isreg():
                    contents[base] = archive.extractfile(member).read()
    return contents


if __name__ == '__main__':
    ignore_pillow_warnings()
    try:
        main()
    except (UserError, OSError) as error:
        sys.exit(f'download.py: {error}')
    except KeyboardInterrupt:
        print('download.py: interrupted; run it again to continue', file=sys.stderr)
        sys.exit(130)
