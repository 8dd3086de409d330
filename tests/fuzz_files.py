"""Feed mutations of a valid file to its reader: python fuzz_files.py KIND COUNT.

Every one is read, or reported in one line, or there is no result: None or False. Prints
how many gave a result, and by how many KiB memory has grown.
"""

import gzip
import io
import json
import os
import pickle
import resource
import signal
import struct
import sys
import tarfile
import tempfile
import types
import zipfile

import numpy as np

import download
from dcgan.data.batches import read_batch
from dcgan.data.idx import read_idx
from dcgan.data.image_folder import read_cache
from dcgan.data.resumable_download import unpack
from dcgan.runs.flags_json import recall
from dcgan.runs.run import Run
from dcgan.sampling.samples import read_z_file
from dcgan.util.errors import UserError
from dcgan.util.flags import FLAGS, Flag, Flags, Group
from dcgan.util.npz import read_cached

MODEL = types.SimpleNamespace(z_dim=6, y_dim=None)
SECONDS = 10  # for one file; then SIGALRM ends the process
NUMBERS = 0, 1, 2**31 - 1, 2**32 - 1, 10**15, 2**63 - 1, 2**64 - 1
TEXTS = '9' * 30, '-1', '1e400', 'NaN', '"x"', 'null', '[[[[', '{"a":', '\\ud800'
VALUES = *NUMBERS, -1, 0.5, float('nan'), 1e300, '', 'x', '1e400', '\0', '\ud800'
VALUES += True, None, [], [[64]], {}, {'a': 'x' * 5000}, 'x' * 5000, 'x' * 2**21
SIZES = 'batch_size', 'input_height', 'input_width', 'output_height', 'output_width'
OTHERS = {'crop': False, 'data_dir': '', 'z_dist': 'normal', 'ema': 0.0}
TABLE = Flags(
    [
        Group('Sizes', '', *(Flag(name, 64, '', 'model', least=1) for name in SIZES)),
        Group('Others', '', *(Flag(*item, '', 'model') for item in OTHERS.items())),
        Group('Labels', '', Flag('labels', '', '', 'labels', choices=('', 'a'))),
    ]
)


def mutate(rng, content):
    """Change one to four parts of some bytes."""
    content = bytearray(content)
    for _ in range(rng.integers(1, 5)):
        start, other = map(int, rng.integers(0, len(content) + 1, 2))
        end = start + int(rng.integers(0, 20))
        size = 2 ** int(rng.integers(1, 4))
        number = NUMBERS[rng.integers(len(NUMBERS))] % 2 ** (8 * size)
        new = number.to_bytes(size, ('little', 'big')[rng.integers(2)])
        text = TEXTS[rng.integers(len(TEXTS))].encode()
        choice = rng.integers(7)
        if choice < 2:
            content[start : start + size] = new
        elif choice == 2:
            content[start:end] = rng.bytes(end - start)
        elif choice == 3:
            content[start:start] = content[other : other + 300]
        elif choice == 4:
            content[start:end] = text
        elif choice == 5:
            del content[start:end]
        else:
            content[start : start + 1] = rng.bytes(1)
    return bytes(content)


def npz(rng, arrays):
    """An .npz file of mutations of arrays, or a mutation of the file."""
    file, inner = io.BytesIO(), rng.integers(2)
    method = int(rng.choice([zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED]))
    with zipfile.ZipFile(file, 'w', method) as archive:
        for name, array in arrays.items():
            member = io.BytesIO()
            np.save(member, array)
            content = member.getvalue()
            archive.writestr(f'{name}.npy', mutate(rng, content) if inner else content)
    return file.getvalue() if inner else mutate(rng, file.getvalue())


def packed(rng, content):
    """A mutation packed by gzip, or a mutation of what gzip has packed."""
    if rng.integers(2):
        return gzip.compress(mutate(rng, content))
    return mutate(rng, gzip.compress(content))


def archive_of(rng, method):
    file = io.BytesIO()
    with zipfile.ZipFile(file, 'w', method) as archive:
        for number in range(3):
            archive.writestr(f'folder/{number}.jpg', rng.bytes(99) * 3)
    return file.getvalue()


def tar_of(rng):
    """A .tgz, in half of the cases of headers with numbers that cannot be."""
    file, inner = io.BytesIO(), rng.integers(2)
    for number in range(3):
        info = tarfile.TarInfo(f'{number}/graph.pb')
        info.size = [99, 10**15, -512, 2**40, 99, 99][rng.integers(inner * 5 + 1)]
        kinds = b'01234567xgLKSDV'
        info.type = kinds[(k := rng.integers(len(kinds))) : k + 1] if inner else b'0'
        info.pax_headers = {'size': str(rng.integers(-9, 9))} if inner else {}
        file.write(
            info.tobuf(int(rng.choice([tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])))
        )
        file.write(bytes(512))
    content = file.getvalue() + bytes(1024)
    if rng.integers(2):
        return mutate(rng, gzip.compress(content))
    return gzip.compress(content if inner else mutate(rng, content))


def record(rng):
    """A FLAGS.json with values that cannot be, or a mutation of one."""
    changes = {}
    if rng.integers(2):
        for name in rng.choice([*RECORD], rng.integers(1, 3)):
            changes[name] = VALUES[rng.integers(len(VALUES))]
    content = json.dumps({**RECORD, **changes}, indent=1).encode()
    return content if changes else mutate(rng, content)


def use_flags(path):
    run = Run(os.path.dirname(path), {})
    for folder in run.checkpoint_dir, run.sample_dir:
        os.path.realpath(folder)
    config = types.SimpleNamespace(**dict.fromkeys(TABLE.table, 1))
    recall(config, TABLE, run.recorded, list(TABLE.table))
    return run.recorded


def batch_of(rng):
    """A pickle; its pixels, in the middle, are not mutated."""
    content = pickle.dumps(BATCH, int(rng.integers(2, 6)))
    return mutate(rng, content[:300]) + content[300:-200] + mutate(rng, content[-200:])


def unpack_anew(path):
    with tempfile.TemporaryDirectory() as folder:  # what is there is not unpacked
        return unpack(path, folder, '.jpg')


ROWS = {'mu': np.zeros(3), 'sigma': np.eye(3), 'features': np.ones((4, 3), np.float32)}
SHAPES = {name: array.shape for name, array in ROWS.items()}
Z = {'z': np.ones((4, 6), np.float32), 'labels': np.arange(4)}
IDX = struct.pack('>4B3I', 0, 0, 8, 3, 5, 4, 4) + bytes(range(80))
BATCH = {b'data': np.zeros((2, 3072), np.uint8), b'labels': [1, 2], b'names': ['a']}
RECORD = {'batch_size': 64, 'ema': 0.999, 'crop': True, 'data_dir': './data'}
RECORD |= {'out_dir': 'out', 'checkpoint_dir': 'out/checkpoint', 'dataset': 'mnist'}
RECORD |= {'y_dim': 10, 'c_dim': None, 'z_dist': 'normal', 'input_height': 28}
SOURCE = {'category': 'bedroom', 'limit': None}
PIXELS = bytes(2 * 3 * 3 * 3) + json.dumps({'failed': [1], 'notes': ['a']}).encode()
KINDS = {  # name of the file, function that makes one, function that reads it
    'npz': (
        'z.npz',
        lambda rng: npz(rng, Z),
        lambda path: read_z_file(path, MODEL, np.arange(1)),
    ),
    'statistics': (
        'statistics.npz',
        lambda rng: npz(rng, ROWS),
        lambda path: read_cached(path, SHAPES),
    ),
    'pixels': (
        'cache',
        lambda rng: mutate(rng, PIXELS),
        lambda path: read_cache(path, (2, 3, 3, 3)),
    ),
    'flags': (
        'FLAGS.json',
        record,
        use_flags,
    ),
    'source': (
        '.source.json',
        lambda rng: mutate(rng, json.dumps(SOURCE).encode()),
        lambda path: download.holds_export(os.path.dirname(path), SOURCE),
    ),
    'idx': (
        'images',
        lambda rng: mutate(rng, IDX),
        lambda path: read_idx(path, (3, 4)),
    ),
    'pickle': (
        'data_batch_1',
        batch_of,
        read_batch,
    ),
    'gzip': (
        'images.gz',
        lambda rng: packed(rng, IDX),
        lambda path: (download.unpacked(path, 'x.gz', 'x'), read_idx(path, (3, 4))),
    ),
    'zip': (
        'images.zip',
        lambda rng: mutate(rng, archive_of(rng, int(rng.choice([0, 8, 12, 14])))),
        unpack_anew,
    ),
    'tar': (
        'graph.tgz',
        tar_of,
        lambda path: download.unpacked(path, 'graph.tgz', ['graph.pb']) or None,
    ),
}


def main(kind, count):
    name, make, read = KINDS[kind]
    rng = np.random.default_rng(0)
    TABLE.define()
    FLAGS(['fuzz'])
    before, good = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, 0
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, name)
        for number in range(count):
            with open(path, 'wb') as file:
                file.write(make(rng))
            signal.alarm(SECONDS)
            try:
                result = read(path)
                good += not (result is None or result is False)
            except UserError as error:
                message = str(error)
                is_line = message.splitlines() == [message] and len(message) < 1000
                assert is_line and (name in message), (number, message)
            signal.alarm(0)
    growth = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    print(f'{kind}: {count} files, {good} results, {growth} KiB')


if __name__ == '__main__':
    main(sys.argv[1], int(sys.argv[2]))
