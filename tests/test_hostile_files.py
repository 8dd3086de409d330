"""Files from outside that are damaged, or made to do harm: one line, or made anew."""

import gzip
import io
import json
import lzma
import math
import os
import pickle
import re
import shutil
import struct
import tarfile
import zipfile
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from conftest import (
    ROOT,
    bounded,
    run_code,
    run_in_process,
    use,
    write_idx_set,
    write_images,
)

import download
from dcgan.data.batches import read_batch
from dcgan.data.dataset import open_dataset
from dcgan.data.idx import ArraySet, read_idx
from dcgan.data.image_folder import read_cache
from dcgan.data.resumable_download import find_or_download, has_digest, unpack
from dcgan.evaluation.classifier import Classifier
from dcgan.evaluation.real_images import RealImages
from dcgan.runs.flags_json import read_flags
from dcgan.sampling.samples import read_z_file
from dcgan.util.errors import UserError
from dcgan.util.files import MAX_BYTES

DEEP = b'[' * 100_000
HUGE = 10**15
MODEL = SimpleNamespace(z_dim=6, y_dim=None)


def array_file(shape, dtype='<f4', content=b'', order='False'):
    """The content of a .npy file with this header, whatever follows it."""
    text = f"{{'descr': {dtype!r}, 'fortran_order': {order}, 'shape': {shape}, }}\n"
    header = b'\x93NUMPY\1\0' + struct.pack('<H', len(text)) + text.encode()
    return header + content


def zip_file(method=zipfile.ZIP_STORED, level=None, **members):
    """The content of a zip archive of these members."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, 'w', method, compresslevel=level) as archive:
        for name, content in members.items():
            archive.writestr(name.replace('_', '.'), content)
    return file.getvalue()


def npz(**arrays):
    file = io.BytesIO()
    np.savez(file, **arrays)
    return file.getvalue()


def tar_file(kind=tarfile.REGTYPE, size=4, content=b'abcd', **pax):
    """The content of a .tgz with graph.pb, of `size` by its header."""
    info = tarfile.TarInfo('folder/graph.pb')
    info.type, info.size, info.linkname = kind, size, info.name
    info.pax_headers = pax
    header = info.tobuf(tarfile.PAX_FORMAT if pax else tarfile.GNU_FORMAT)
    padded = content + bytes(-len(content) % 512)
    return gzip.compress(header + padded + bytes(1024))


def with_flag(archive, flag):
    """A zip archive whose members are marked, by 1 as encrypted."""
    content = bytearray(archive)
    for signature, offset in (b'PK\3\4', 6), (b'PK\1\2', 8):
        start = content.find(signature)
        while start >= 0:
            content[start + offset] |= flag
            start = content.find(signature, start + 1)
    return bytes(content)


Z = npz(z=np.zeros((2, 6), np.float32))
HOSTILE_NPZ = {
    'empty': b'',
    'no archive': b'not an archive',
    'truncated': Z[:-30],
    'encrypted': with_flag(Z, 1),
    'patched': with_flag(Z, 32),
    'packed by lzma': zip_file(zipfile.ZIP_LZMA, z_npy=array_file((2, 6))),
    'packed by bzip2': zip_file(zipfile.ZIP_BZIP2, z_npy=bytes(1 << 20)),
    'corrupt deflate': zip_file(zipfile.ZIP_DEFLATED, z_npy=bytes(999)).replace(
        b'c`', b'\xff\xff'
    ),
    'a bomb': zip_file(zipfile.ZIP_DEFLATED, 1, z_npy=bytes(MAX_BYTES + 1)),
    'a shape of 10^15': zip_file(z_npy=array_file((HUGE, 6))),
    'a shape beyond 64 bits': zip_file(z_npy=array_file((2**70, 6))),
    'a negative shape': zip_file(z_npy=array_file((-2, 6))),
    'no shape': zip_file(z_npy=array_file('None')),
    'a nested shape': zip_file(z_npy=array_file('(' * 3000)),
    'a long shape': zip_file(z_npy=array_file((1,) * 9000)),
    'tokens that do not end': zip_file(z_npy=array_file("'''")),
    'objects': zip_file(z_npy=array_file((2, 6), '|O', b'c' * 96)),
    'texts': zip_file(z_npy=array_file((2, 6), '<U1', bytes(48))),
    'fields': npz(z=np.zeros((2, 6), [('x', 'f4')])),
    'a vast item': zip_file(z_npy=array_file((2, 6), f'<V{2**31 - 1}')),
    'another version': zip_file(z_npy=b'\x93NUMPY\2\0' + b'\xff' * 4),
    'no array': zip_file(z_npy=b''),
    'another name': npz(x=np.zeros((2, 6))),
    'no rows': npz(z=np.zeros((0, 6))),
    'beyond float32': npz(z=np.full((2, 6), 1e300)),
    'labels of another length': npz(z=np.zeros((2, 6)), labels=np.zeros(3, int)),
    'labels that are no numbers': npz(z=np.zeros((2, 6)), labels=np.array(['a', 'b'])),
}


@pytest.mark.parametrize('name', HOSTILE_NPZ)
def test_a_hostile_npz_file_is_one_line(name, tmp_path):
    path = tmp_path / 'z.npz'
    path.write_bytes(HOSTILE_NPZ[name])
    with pytest.raises(UserError) as raised:
        read_z_file(str(path), MODEL, np.arange(1))
    message = str(raised.value)
    assert message.startswith(f'{path}: not an .npz file of samples'), message
    assert '\n' not in message and len(message) < 1000


def make(kind, path):
    """Make something in place of a file: a pipe, a folder, or an unreadable file."""
    if kind == 'pipe':
        os.mkfifo(path)
    elif kind == 'folder':
        path.mkdir()
    else:
        path.symlink_to(path)


@pytest.mark.parametrize('kind', ['pipe', 'folder', 'link to itself'])
def test_what_is_no_file_is_one_line_and_no_reader_waits_for_it(kind, tmp_path):
    path = tmp_path / 'FLAGS.json'
    make(kind, path)
    with pytest.raises(UserError, match=f'^{path}: '):
        read_z_file(str(path), MODEL, np.arange(1))
    with pytest.raises(UserError, match=f'^{path}: '):
        read_flags(str(tmp_path))
    with pytest.raises(UserError, match=f'^{path}: '):
        read_idx(str(path))
    assert read_cache(str(path), (1, 2, 2, 3)) is None
    assert not has_digest(str(path), '0' * 32)
    assert download.unpacked(str(path), 'x.tgz', ['x']) == {}
    with pytest.raises(UserError, match=f'^{path}: '):
        read_batch(str(path))


# FLAGS.json

HOSTILE_FLAGS = {
    'nesting': DEEP,
    'nesting of objects': b'{"a":' * 100_000,
    'a list': b'[1, 2]',
    'a number': b'9' * 5000,
    'no text': b'\xff\xfe\xfa',
    'a text of 10 MB': json.dumps({'dataset': 'x' * 10_000_000}).encode(),
    'a text of 9 kB': json.dumps({'out_dir': 'x' * 9000}).encode(),
    'a zero byte': b'{"checkpoint_dir": "\\u0000", "out_dir": "out"}',
    'half a character': b'{"checkpoint_dir": "\\ud800", "out_dir": "out"}',
    'a number of classes that is none': b'{"y_dim": "ten", "c_dim": 3}',
    'vast channels': b'{"c_dim": 1e300}',
}
HOSTILE_VALUES = {
    'batch_size': [2**63, 10**400, math.nan, math.inf, '64x', 1.5, None, [64], {}, ''],
    'z_dim': [-1, 0, 2**62],
    'learning_rate': [math.nan, math.inf, 10**400, '1e400', 'nan', 'fast', [1]],
    'crop': [2, 'perhaps', [], 0.5],
    'z_dist': ['uniform', 3, None, ['uniform_signed']],
    'data_dir': [7, ['data']],
}


@pytest.mark.parametrize('name', HOSTILE_FLAGS)
def test_a_hostile_flags_json_is_one_line(name, tmp_path):
    (tmp_path / 'FLAGS.json').write_bytes(HOSTILE_FLAGS[name])
    with pytest.raises(UserError) as raised:
        read_flags(str(tmp_path))
    message = str(raised.value)
    assert message.startswith(f'{tmp_path}/FLAGS.json: does not hold flags of a run (')
    assert '\n' not in message and len(message) < 1000


@pytest.mark.parametrize('name', HOSTILE_VALUES)
def test_a_hostile_value_in_flags_json_is_one_line(name, tiny_copy):
    path = tiny_copy / 'out' / 'set' / 'FLAGS.json'
    flags = json.loads(path.read_text())
    for value in HOSTILE_VALUES[name]:
        path.write_text(json.dumps({**flags, name: value}))
        result = run_in_process('--train', '--out_name', 'set', cwd=tiny_copy)
        assert result.returncode == 1, (value, result.stderr)
        assert result.stderr.count('\n') == 1 and len(result.stderr) < 1000
        assert f'FLAGS.json of the run: {name} ' in result.stderr, value


def test_a_broken_neighbour_is_left_out_where_the_newest_run_is_looked_for(tiny_copy):
    out = tiny_copy / 'out'
    flags = json.loads((out / 'set' / 'FLAGS.json').read_text())
    contents = {**HOSTILE_FLAGS, 'no data set': b'{}', 'other': b'{"dataset": 7}'}
    for name, value in ('batch_size', 2**63), ('checkpoint_dir', ''), ('z_dim', 'x'):
        contents[name] = json.dumps({**flags, name: value}).encode()
    for name, content in contents.items():
        shutil.copytree(out / 'set', out / name)
        (out / name / 'FLAGS.json').write_bytes(content)
    for kind in ('pipe', 'folder', 'link to itself'):
        (out / kind / 'checkpoint').mkdir(parents=True)
        make(kind, out / kind / 'FLAGS.json')
    os.utime(out / 'set' / 'checkpoint' / 'model.b8-3.index', (1, 1))
    shutil.rmtree(out / 'checkpoint_dir')
    printed = use(tiny_copy, '', '--dataset', 'set', '--generate_test_images', 2)
    assert 'Newest run of set: ./out/set, iteration' in printed
    for name in ('batch_size', 'z_dim'):
        assert (
            f' [!] ./out/{name} is left out: FLAGS.json of the run: {name}' in printed
        )


@pytest.mark.slow
def test_no_pipe_in_place_of_a_file_of_a_run_is_waited_for(tiny_copy):
    run = tiny_copy / 'out' / 'set'
    names = 'model.b8-3.index', 'model.b8-2.data-00000-of-00001', 'checkpoint'
    for path in (*(run / 'checkpoint' / name for name in names), run / 'lock.owner'):
        path.unlink()
        os.mkfifo(path)
    printed = use(tiny_copy, 'set', '--train', '--epoch', 1, '--resume_step', 1)
    assert 'Resuming after iteration 1,' in printed
    for name in names[:2]:
        (run / 'checkpoint' / name).unlink(missing_ok=True)
        os.mkfifo(run / 'checkpoint' / name)
    printed = use(tiny_copy, 'set', '--generate_test_images', 2)
    assert printed.count('this checkpoint cannot be read (it is no regular file)') == 2
    os.mkfifo(run / 'evaluations.jsonl')
    evaluation = '--out_name', 'set', '--evaluate', '--evaluate_samples', 8
    result = run_in_process(*evaluation, cwd=tiny_copy)
    assert 'evaluations.jsonl: cannot be written' in result.stderr


# Caches


@pytest.fixture(scope='module')
def real_images(tmp_path_factory):
    """RealImages of a set of 40 images."""
    folder = tmp_path_factory.mktemp('real')
    write_idx_set(folder, size=16)
    return RealImages(ArraySet(str(folder), 16, 16), str(folder), '')


def hostile_caches(arrays):
    """{name: content} of .npz files that are not what `arrays` shows."""
    name = max(arrays, key=lambda name: arrays[name].size)
    value = arrays[name]
    changed = {
        'another shape': value[..., :-1],
        'more dimensions': value[None],
        'not finite': value * np.nan,
        'objects': value.astype(object),
        'texts': value.astype(str),
        'complex': value.astype(complex),
    }
    contents = {key: npz(**{**arrays, name: array}) for key, array in changed.items()}
    del arrays[name]
    return {**contents, 'less': npz(**arrays), 'no archive': b'x', 'empty': b''}


def test_a_hostile_cache_of_a_classifier_is_trained_anew(real_images, tmp_path):
    classifier, path = Classifier((16, 16, 1), 4), tmp_path / 'classifier.npz'
    classifier.save(str(path))
    with np.load(path) as file:
        contents = hostile_caches(dict(file))
    assert classifier.load(str(path))
    for name, content in contents.items():
        path.write_bytes(content)
        assert not classifier.load(str(path)), name


def test_hostile_statistics_are_computed_anew(real_images):
    class Extractor:
        digest, d = 'of a network', 5

        @classmethod
        def features(cls, images):
            return np.zeros((len(images), cls.d), np.float32)

    features = np.random.RandomState(0).rand(40, 5).astype(np.float32)
    arrays = real_images.save_statistics(Extractor, features)
    assert real_images.cached_statistics(Extractor)['features'].shape == (40, 5)
    Extractor.d = 6
    assert real_images.cached_statistics(Extractor) is None
    Extractor.d = 5
    for name, content in hostile_caches(arrays).items():
        Path(real_images._path(Extractor)).write_bytes(content)
        assert real_images.cached_statistics(Extractor) is None, name


@pytest.mark.parametrize(
    'about',
    [
        *(b'', DEEP, b'[]', b'{}', b'null', b'\xff', b'{"failed": [], "notes": 5}'),
        *(b'{"failed": [2], "notes": []}', b'{"failed": ["0"], "notes": []}'),
        *(b'{"failed": [1e400], "notes": []}', b'{"failed": {"a": 1}, "notes": []}'),
    ],
)
def test_a_hostile_cache_of_pixels_is_none(about, tmp_path):
    path, pixels = tmp_path / 'cache', bytes(2 * 4 * 4 * 3)
    path.write_bytes(pixels + b'{"failed": [1], "notes": ["a"]}')
    assert read_cache(str(path), (2, 4, 4, 3))[1:] == ([1], {'a'})
    path.write_bytes(pixels + about)
    assert read_cache(str(path), (2, 4, 4, 3)) is None
    assert read_cache(str(path), (HUGE, 4, 4, 3)) is None


@pytest.mark.parametrize('kind', ['pipe', 'folder', 'link to itself'])
def test_what_is_no_cache_of_pixels_is_replaced_by_one(kind, tmp_path):
    write_images(tmp_path, count=3)
    args = (str(tmp_path), '*.png', (8, 8), (8, 8), False, False)
    open_dataset(*args, cache=True)
    (path,) = (tmp_path / '.cache').glob('[!.]*-*')
    path.unlink()
    make(kind, path)
    images, _ = open_dataset(*args, cache=True).take(np.arange(3))
    assert (
        path.is_file() and (images == open_dataset(*args).take(np.arange(3))[0]).all()
    )


# IDX files, batches and archives


def idx(*shape, content=b''):
    return struct.pack(f'>4B{len(shape)}I', 0, 0, 8, len(shape), *shape) + content


@pytest.mark.parametrize(
    ('content', 'problem'),
    {
        idx(2**31, 2**31, 2**31): 'has shape',
        idx(10, 10**7, 10**7): 'has shape',
        idx(*[1] * 255): 'has shape',
        idx(1, 0, 5): 'has shape',
        idx(1000, 1000, 1000, content=b'abc'): 'bytes, but 3 follow',
        idx(1, 1, 2, content=bytes(99)): 'announces 2 bytes',
        b'\0\0\x0d\1' + bytes(99): 'not an IDX file',
    }.items(),
    ids=['2^93', '10^15', '255 dimensions', 'empty', 'truncated', 'longer', 'floats'],
)
@pytest.mark.parametrize('ending', ['', '.gz'])
def test_a_hostile_idx_file_is_one_line(content, problem, ending, tmp_path):
    path = tmp_path / f'images{ending}'
    path.write_bytes(gzip.compress(content) if ending else content)
    with pytest.raises(UserError, match=f'^{path}: cannot be read .*{problem}.*; '):
        read_idx(str(path), (3, 4))


def test_a_packed_idx_file_is_not_unpacked_beyond_what_it_announces(tmp_path):
    path = tmp_path / 'images.gz'
    path.write_bytes(
        gzip.compress(idx(1, 1, 2), 1) + 300 * gzip.compress(bytes(1 << 20))
    )
    with pytest.raises(UserError, match='announces 2 bytes, but 3 follow'):
        read_idx(str(path))


# Batches of CIFAR-10 and SVHN


class Call:
    """Is pickled as a call of a function."""

    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


def batch(protocol=2, **changes):
    """A pickled batch of two images, with these changes."""
    content = {'data': np.zeros((2, 3072), np.uint8), 'labels': [1, 2], **changes}
    return pickle.dumps(content, protocol)


SYSTEM = Call(os.system, 'touch called')
HOSTILE_PICKLES = {
    'os.system': pickle.dumps(SYSTEM, 2),
    'os.system in protocol 0': pickle.dumps(SYSTEM, 0),
    'os.system as pixels': batch(data=SYSTEM),
    'os.system beside a good batch': batch(filenames=SYSTEM),
    'os.system beside it, in protocol 5': batch(5, filenames=SYSTEM),
    'eval': pickle.dumps(Call(eval, 'open("called", "w")'), 5),
    'an instance': b"(S'touch called'\nios\nsystem\n.",
    'objects': batch(data=np.array([[None] * 3072] * 2)),
    'floats': batch(data=np.zeros((2, 3072))),
    'another shape': batch(data=np.zeros((2, 3071), np.uint8)),
    'more labels': batch(labels=[1, 2, 3]),
    'a label beyond 9': batch(labels=[1, 10]),
    'labels below 0': batch(labels=[-1, 1]),
    'labels that are texts': batch(labels=['1', '2']),
    'no labels': batch(labels=[]),
    'a vast announced text': b'\x80\4\x8e' + struct.pack('<Q', 2**40) + b'abc.',
    'a vast announced array': b'\x80\5\x96' + struct.pack('<Q', 2**62) + b'abc.',
    'a vast memo': b'\x80\2}r\xff\xff\xff\x7f.',
    'a vast array': pickle.dumps(Call(np.ndarray, (HUGE,)), 2),
    'a doubled tuple': b'\x80\2)' + b'2\x86' * 1000 + b'}2.',
    'a doubled key': b'\x80\2}K\0' + b'2\x86' * 1000 + b'K\1s.',
    'nesting': b'\x80\2' + b']' * 10**5 + b'a' * 10**5 + b'.',
    'an empty stack': b'\x80\2RRRb.',
    'empty': b'',
    'no end': batch()[:-1],
    'HTML': b'<html>',
}


def assert_is_refused(path):
    """Reading a batch ends in one line, within bounds of time and memory."""
    with bounded(), pytest.raises(UserError) as raised:
        read_batch(str(path))
    message = str(raised.value)
    assert message.startswith(f'{path}: not a batch of CIFAR-10 or SVHN (')
    assert '\n' not in message and len(message) < 1000


@pytest.mark.parametrize('name', HOSTILE_PICKLES)
def test_a_hostile_pickle_is_one_line_and_calls_nothing(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / 'data_batch_1'
    path.write_bytes(batch(5))
    assert read_batch(str(path))[1].tolist() == [1, 2]
    path.write_bytes(HOSTILE_PICKLES[name])
    assert_is_refused(path)
    assert [*tmp_path.iterdir()] == [path]


def mat_file(kind=9, shape=(32, 32, 3, 2), content=bytes(6144), size=None):
    """The content of a .mat file with X, of class `kind`; 1 is a cell, 9 uint8."""

    def element(kind, content, size=None):
        header = struct.pack('<2I', kind, len(content) if size is None else size)
        return header + content + bytes(-len(content) % 8)

    parts = [element(6, struct.pack('<2I', kind, 0)), element(1, b'X')]
    parts.insert(1, element(5, struct.pack(f'<{len(shape)}i', *shape)))
    values = content if kind == 1 else element(2, content, size)
    variable = element(14, b''.join(parts) + values)
    return b'MATLAB 5.0'.ljust(124) + struct.pack('<H2s', 256, b'IM') + variable


def nested_cells(depth):
    """Cells in cells, whose headers announce their sizes."""
    cell = mat_file(1, (1, 1), b'')[128:]
    sizes = [8 + (depth - i) * len(cell) - 16 for i in range(depth)]
    cells = [cell[:4] + struct.pack('<I', size) + cell[8:] for size in sizes]
    return mat_file()[:128] + b''.join(cells)


HOSTILE_MATS = {
    'without labels': mat_file(),
    'a vast shape': mat_file(shape=(32, 32, 3, 2**31 - 1)),
    'a negative shape': mat_file(shape=(32, 32, 3, -2)),
    'another shape': mat_file(shape=(6144, 1)),
    'a vast announced size': mat_file(size=2**32 - 8),
    'another class': mat_file(kind=6),
    'nested cells': nested_cells(10**5),
    'version 7.3': b'MATLAB 7.3'.ljust(124) + struct.pack('<H2s', 512, b'IM'),
    'truncated': mat_file()[:-100],
    'zeros': bytes(999),
    'empty': b'',
}


@pytest.mark.parametrize('name', HOSTILE_MATS)
def test_a_hostile_mat_file_is_one_line(name, tmp_path):
    path = tmp_path / 'train_32x32.mat'
    path.write_bytes(HOSTILE_MATS[name])
    assert_is_refused(path)


PICTURE = zip_file(zipfile.ZIP_DEFLATED, a_jpg=bytes(99))
HOSTILE_ZIPS = {
    'encrypted': with_flag(PICTURE, 1),
    'packed by lzma': zip_file(zipfile.ZIP_LZMA, a_jpg=bytes(99)),
    'packed by bzip2': zip_file(zipfile.ZIP_BZIP2, a_jpg=bytes(99)),
    'a bomb': zip_file(zipfile.ZIP_DEFLATED, 1, a_jpg=bytes(MAX_BYTES + 1)),
    'many small bombs': zip_file(
        zipfile.ZIP_DEFLATED, 1, **{f'{n}_jpg': bytes(1 << 24) for n in range(9)}
    ),
    'a corrupt member': PICTURE.replace(b'c`', b'\xff\xff'),
    'another size': PICTURE.replace(struct.pack('<I', 99), struct.pack('<I', 98)),
    'truncated': PICTURE[:-40],
    'no archive': b'PK',
    'a member before the start': PICTURE[:-10] + b'\xff\xff\xff\x7f' + PICTURE[-6:],
}


@pytest.mark.parametrize('name', HOSTILE_ZIPS)
def test_a_hostile_zip_archive_is_not_the_expected_file(name, tmp_path):
    (tmp_path / 'images.zip').write_bytes(HOSTILE_ZIPS[name])
    folder = tmp_path / 'unpacked'
    with pytest.raises(UserError, match=r'images\.zip: corrupt or not the expected'):
        find_or_download(
            'images.zip',
            [str(tmp_path)],
            [],
            lambda path: unpack(path, str(folder), '.jpg'),
            'try again',
        )
    assert sum(path.stat().st_size for path in folder.iterdir()) < 1 << 20


def test_members_of_a_zip_archive_stay_in_the_folder(tmp_path):
    names = ['../../up.jpg', '/root.jpg', 'C:\\drive.jpg', '..\\back.jpg', 'a/b.jpg']
    with zipfile.ZipFile(tmp_path / 'images.zip', 'w') as archive:
        for name in names:
            archive.writestr(name, name)
        link = zipfile.ZipInfo('link.jpg')
        link.external_attr = 0o120777 << 16
        archive.writestr(link, '/etc/passwd')
    assert unpack(f'{tmp_path}/images.zip', f'{tmp_path}/to/here', '.jpg')
    found = {path.name for path in (tmp_path / 'to' / 'here').iterdir()}
    assert found == {'up.jpg', 'root.jpg', 'drive.jpg', 'back.jpg', 'b.jpg', 'link.jpg'}
    assert not (tmp_path / 'to' / 'here' / 'link.jpg').is_symlink()
    assert {path.name for path in tmp_path.iterdir()} == {'images.zip', 'to'}


HOSTILE_TARS = {
    'a link to itself': tar_file(tarfile.SYMTYPE, 0, b''),
    'a hard link to itself': tar_file(tarfile.LNKTYPE, 0, b''),
    'a device': tar_file(tarfile.CHRTYPE, 0, b''),
    'a pipe': tar_file(tarfile.FIFOTYPE, 0, b''),
    'a folder': tar_file(tarfile.DIRTYPE, 0, b''),
    'a vast size': tar_file(size=HUGE),
    'a negative size': tar_file(size=-1024),
    'a negative size in a second header': tar_file(size='-1024'),
    'a long name without an end': tar_file(tarfile.GNUTYPE_LONGNAME, 2**40),
    'holes': tar_file(tarfile.GNUTYPE_SPARSE, HUGE),
    'packed by lzma': lzma.compress(gzip.decompress(tar_file())),
    'no archive': gzip.compress(bytes(range(256)) * 4),
    'truncated': tar_file()[:-20],
    'empty': b'',
}


@pytest.mark.parametrize('name', HOSTILE_TARS)
def test_a_hostile_tar_archive_has_no_member(name, tmp_path):
    (tmp_path / 'good.tgz').write_bytes(tar_file())
    what = 'graph.tgz', ['graph.pb']
    assert download.unpacked(f'{tmp_path}/good.tgz', *what) == {'graph.pb': b'abcd'}
    (tmp_path / 'hostile.tgz').write_bytes(HOSTILE_TARS[name])
    assert download.unpacked(f'{tmp_path}/hostile.tgz', *what) == {}


@pytest.mark.parametrize(
    'content', [b'', DEEP, b'[]', b'null', b'{"limit": {}}', b'\xff', b'9' * 5000]
)
def test_a_hostile_record_of_an_export_is_none(content, tmp_path):
    source, path = {'category': 'bedroom', 'limit': 5}, tmp_path / '.source.json'
    path.write_text(json.dumps(source))
    assert download.holds_export(str(tmp_path), source)
    path.write_bytes(content)
    assert not download.holds_export(str(tmp_path), source)


# Mutations

KINDS = 'npz', 'statistics', 'pixels', 'flags', 'source', 'idx', 'gzip', 'zip', 'tar'
KINDS += ('pickle',)


@pytest.mark.slow
@pytest.mark.parametrize('kind', KINDS)
def test_mutations_are_read_or_reported_in_one_line(kind, tmp_path):
    result = run_code(
        (ROOT / 'tests/fuzz_files.py').read_text(), kind, 2000, cwd=tmp_path
    )
    assert result.returncode == 0, result.stderr
    number, good, growth = map(int, re.findall(r'\d+', result.stdout.splitlines()[-1]))
    assert number == 2000 and 0 < good < number and growth < 1 << 20
