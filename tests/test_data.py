"""IDX files and batches, and what they have in common with data sets of image files."""

import gzip
import json
import os
import pickle
import shutil

import numpy as np
import pytest
from conftest import (
    SMALL,
    run_in_process,
    use,
    write_batches,
    write_idx_set,
    write_images,
)

from dcgan.data.batches import CIFAR10_CLASSES, read_batch
from dcgan.data.dataset import open_dataset
from dcgan.data.idx import array_summary, read_idx, write_idx
from dcgan.util.errors import UserError

pytestmark = pytest.mark.smoke


def open_set(folder, pattern='*.png', size=(8, 8)):
    return open_dataset(str(folder), pattern, size, (20, 20), False, False)


def test_both_kinds_of_data_set_offer_the_same_interface(tmp_path):
    write_idx_set(tmp_path / 'idx')
    write_images(tmp_path / 'images')
    idx, images = (open_set(tmp_path / name) for name in ('idx', 'images'))
    offered = {name for name in dir(idx) if name[0] != '_'} - {'images', 'rows', 'size'}
    assert {'order', 'read', 'take'} <= offered <= {*dir(images)}


def test_idx_files_are_read_as_they_were_written_also_compressed(tmp_path):
    written = write_idx_set(tmp_path)
    for path, array in zip(sorted(tmp_path.iterdir()), written):
        packed = tmp_path / f'{path.name}.gz'
        packed.write_bytes(gzip.compress(path.read_bytes()))
        path.unlink()
        assert (read_idx(str(packed)) == array).all()
    assert len(open_set(tmp_path)) == 40


@pytest.mark.parametrize('has_good_files', [False, True])
def test_idx_files_in_folders_of_their_own_names_are_found(has_good_files, tmp_path):
    write_idx_set(tmp_path / 'good')
    for path in (tmp_path / 'good').iterdir():
        (tmp_path / 'set' / path.name).mkdir(parents=True)
        copy = tmp_path / 'set' / path.name / path.name
        copy.write_bytes(b'corrupt' if has_good_files else path.read_bytes())
        if has_good_files:  # compressed beside the folders
            packed = gzip.compress(path.read_bytes())
            (tmp_path / 'set' / f'{path.name}.gz').write_bytes(packed)
    (tmp_path / 'set' / 't10k-images-idx3-ubyte').mkdir()  # empty
    (tmp_path / 'set' / '._train-images-idx3-ubyte').touch()  # hidden
    found, good = (open_set(tmp_path / name) for name in ('set', 'good'))
    assert (found.images == good.images).all()


def test_training_split_comes_first_and_seed_547_shuffles_the_set(tmp_path):
    train = write_idx_set(tmp_path, count=30, prefix='train')
    test = write_idx_set(tmp_path, count=10, prefix='t10k')
    dataset = open_set(tmp_path)
    for index, array in enumerate((dataset.images, dataset.labels)):
        expected = np.concatenate([train[index], test[index]])
        np.random.seed(547)
        np.random.shuffle(expected)
        assert (array == expected).all()
    assert dataset.images.dtype == np.uint8 and len(dataset) == 40


def test_batches_of_idx_files_are_parts_of_the_order(tmp_path):
    write_idx_set(tmp_path)
    dataset = open_set(tmp_path)
    dataset.order = dataset.order[::-1].copy()
    batches = list(dataset.batches(8, 4, first=2, part=slice(3, 5)))
    expected = [dataset.take(39 - np.array(part)) for part in ([19, 20], [27, 28])]
    for batch, wanted in zip(batches, expected, strict=True):
        assert all((a == b).all() for a, b in zip(batch, wanted, strict=True))
    assert dataset.first_usable(2).tolist() == [39, 38]


def test_summary_gives_size_and_classes_of_idx_folders_only(tmp_path):
    write_idx_set(tmp_path / 'set', size=12, classes=4)
    write_images(tmp_path / 'cats')
    assert array_summary(str(tmp_path / 'set')) == (12, 12, 4)
    assert array_summary(str(tmp_path / 'cats')) is None
    assert array_summary(str(tmp_path / 'none')) is None
    with pytest.raises(UserError, match='none: no such data folder'):
        open_set(tmp_path / 'none')


@pytest.mark.parametrize('channels', [None, 1, 3])
@pytest.mark.parametrize('size', [(8, 8), (16, 12)])
def test_idx_images_are_resized_and_can_have_channels(channels, size, tmp_path):
    write_idx_set(tmp_path)
    if channels:
        images = np.random.RandomState(0).randint(0, 256, (40, 8, 8, channels))
        write_idx(f'{tmp_path}/train-images-idx3-ubyte', images.astype(np.uint8))
    dataset = open_set(tmp_path, size=size)
    images, labels = dataset.take(np.arange(4, 7))
    assert images.shape == (3, *size, channels or 1) and images.dtype == np.uint8
    assert labels.shape == (3,) and dataset.c_dim == (channels or 1)


def test_corrupt_idx_file_is_reported_by_name(tmp_path):
    problems = {
        b'': 'not an IDX file',
        b'<html>sorry</html>': 'not an IDX file',
        b'\0\0\x08\x03\0\0': 'cannot be read',
        b'\0\0\x08\x01\0\0\0\x09abc': 'announces 9 bytes, but 3 follow',
        gzip.compress(b'\0\0\x08\x01\0\0\0\x09')[:-9]: 'cannot be read',
    }
    for content, problem in problems.items():
        path = tmp_path / ('labels.gz' if content[:2] == b'\x1f\x8b' else 'labels')
        path.write_bytes(content)
        with pytest.raises(UserError, match=f'{path.name}: .*{problem}'):
            read_idx(str(path))
    for name in 'pipe', 'pipe.gz':
        os.mkfifo(tmp_path / name)
        with pytest.raises(UserError, match=f'{name}: .*it is no regular file'):
            read_idx(str(tmp_path / name))


IMAGES, LABELS = 'train-images-idx3-ubyte', 'train-labels-idx1-ubyte'


@pytest.mark.parametrize(
    ('name', 'array', 'message'),
    [
        (IMAGES, None, f'{LABELS}: its images file is missing'),
        (LABELS, None, f'{IMAGES}: its labels file is missing'),
        (LABELS, np.zeros(0), f'{LABELS}: .*has shape'),
        (LABELS, np.zeros((4, 8, 8)), f'{LABELS}: .*has shape'),
        (LABELS, np.zeros(3), '40 images, but 3 labels'),
        (IMAGES, np.zeros((40, 8, 8, 2)), 'its images have 2 channels, not 1'),
        (IMAGES, np.zeros((40, 9, 8)), r'shape \(8, 8\), the others \(9, 8\)'),
    ],
)
def test_files_that_do_not_belong_together_are_refused(name, array, message, tmp_path):
    for prefix in ('train', 't10k'):
        write_idx_set(tmp_path, prefix=prefix)
    (tmp_path / name).unlink()
    if array is not None:
        write_idx(f'{tmp_path}/{name}', array.astype(np.uint8))
    with pytest.raises(UserError, match=message):
        open_set(tmp_path)


@pytest.mark.parametrize('ending', ['test', 'valid'])
def test_labels_of_emnist_letters_are_shifted_to_start_at_0(ending, tmp_path):
    for prefix in ('emnist-letters-train', f'emnist-letters-{ending}'):
        _, labels = write_idx_set(tmp_path, prefix=prefix)
        write_idx(f'{tmp_path}/{prefix}-labels-idx1-ubyte', labels + 1)
    dataset = open_set(tmp_path)
    assert array_summary(str(tmp_path)) == (8, 8, 4)
    assert sorted(set(dataset.labels)) == [0, 1, 2, 3] and dataset.classes == 4
    assert dataset.contents.startswith('80 images in 4 classes: 40 in emnist-letters-')
    write_idx_set(tmp_path, prefix='emnist-digits-train')
    with pytest.raises(UserError, match='several data sets .*emnist-digits-.*letters'):
        open_set(tmp_path)


# CIFAR-10 and SVHN


@pytest.mark.parametrize('kind', ['.bin', '', '.mat'])
def test_batches_are_served_as_idx_files_are(kind, tmp_path):
    images, labels = write_batches(tmp_path / 'any name', kind)
    dataset = open_set(tmp_path / 'any name', size=(32, 32))
    for expected, found in (images, dataset.images), (labels, dataset.labels):
        np.random.seed(547)
        np.random.shuffle(expected)
        assert (expected == found).all() and found.dtype == np.uint8
    assert (dataset.take(np.arange(3))[0] == images[:3]).all() and dataset.c_dim == 3
    assert open_set(tmp_path / 'any name').take(np.arange(3))[0].shape == (3, 8, 8, 3)
    names = ('train_32x32', 'test_32x32') if kind == '.mat' else ('data_batch_1',)
    assert dataset.contents.startswith(f'40 images in 10 classes: 20 in {names[0]}, ')
    assert array_summary(str(tmp_path / 'any name')) == (32, 32, 10)


@pytest.mark.parametrize('protocol', [2, 3, 4, 5])
@pytest.mark.parametrize('to_key', [str, str.encode])
def test_python_batches_are_read_from_each_protocol(protocol, to_key, tmp_path):
    images, labels = write_batches(tmp_path, '.bin')
    pixels = images[:20].transpose(0, 3, 1, 2).reshape(20, 3072)
    batch = {'data': pixels, 'batch_label': 'training batch', 'labels': labels[:20]}
    batch = {to_key(k): v for k, v in batch.items()}
    batch[to_key('labels')] = labels[:20].tolist()
    for order in (batch, dict(reversed(batch.items()))):
        path = tmp_path / 'data_batch_1'
        path.write_bytes(pickle.dumps(order, protocol))
        found = read_batch(str(path))
        assert (found[0] == images[:20]).all() and (found[1] == labels[:20]).all()


def test_a_pickle_of_python_2_is_read(tmp_path):
    def text(content):
        return b'U%c%s' % (len(content), content)

    pixels, array = bytes(range(256)) * 24, b'cnumpy.core.multiarray\n_reconstruct\n'
    array += b'cnumpy\nndarray\nK\0\x85' + text(b'b') + b'\x87R(K\1K\2M\0\x0c\x86'
    array += b'cnumpy\ndtype\n' + text(b'u1') + b'K\0K\1\x87R(K\3' + text(b'|')
    array += b'NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\0tb\x89T\0\x18\0\0' + pixels
    labels = text(b'labels') + b'q\4]q\5(K\3K\7e' + text(b'data') + b'q\6'
    content = b'\x80\2}q\1(' + labels + array + b'tbu.'
    assert pickle.loads(content, encoding='bytes')[b'data'].tobytes() == pixels
    (tmp_path / 'data_batch_1').write_bytes(content)
    images, labels = read_batch(f'{tmp_path}/data_batch_1')
    assert images.transpose(0, 3, 1, 2).tobytes() == pixels
    assert labels.tolist() == [3, 7]


def test_batches_are_found_in_the_folder_that_their_archive_makes(tmp_path):
    for name, kind in ('bin', '.bin'), ('py', ''):
        folder = tmp_path / name / f'cifar-10-batches-{name}'
        write_batches(folder, kind)
        assert len(open_set(tmp_path / name)) == 40
        shutil.rmtree(folder)
    write_images(tmp_path / 'py')
    assert len(open_set(tmp_path / 'py')) == 10


def test_a_set_that_lacks_classes_keeps_their_numbers(tmp_path):
    write_batches(tmp_path)
    content = (tmp_path / 'test_batch.bin').read_bytes()
    (tmp_path / 'data_batch_1.bin').unlink()
    (tmp_path / 'test_batch.bin').write_bytes(content[3073 * 3 : 3073 * 5])
    dataset = open_set(tmp_path)
    assert sorted(dataset.labels) == [3, 4] and dataset.classes == 10


def test_a_conditional_model_learns_the_named_classes_of_cifar10(tmp_path):
    write_batches(tmp_path / 'data' / 'set')
    train = ['--train', '--dataset', 'set', '--epoch', 1, *SMALL]
    assert '40 images in 10 classes: 20 in data_batch_1' in use(tmp_path, 'a', *train)
    names = json.loads((tmp_path / 'out' / 'a' / 'classes.json').read_text())
    assert names == CIFAR10_CLASSES
    assert '[*]' in use(tmp_path, 'a', '--label', 'cat,truck')
    assert open_set(tmp_path / 'data' / 'set').class_names is None  # unconditional
    refused = run_in_process(*train, '--labels', 'x.csv', cwd=tmp_path)
    assert refused.returncode == 1 and refused.stderr.count('\n') == 1


def test_image_files_are_sorted_and_then_shuffled_for_every_epoch(tmp_path):
    write_images(tmp_path)
    expected = [f'{tmp_path}/{i:03d}.png' for i in range(10)]
    np.random.seed(3)
    dataset = open_set(tmp_path)
    dataset.shuffle()
    np.random.seed(3)
    np.random.shuffle(expected.copy())
    np.random.shuffle(expected)
    assert [dataset.files[i] for i in dataset.order] == expected
    images, labels = next(dataset.batches(4, 1))
    assert images.shape == (4, 8, 8, 3) and images.dtype == np.uint8
    assert labels is None
