"""IDX files, and what data sets of IDX files and of image files have in common."""

import gzip
import os

import numpy as np
import pytest
from conftest import write_idx_set, write_images

from dcgan.data.dataset import open_dataset
from dcgan.data.idx import idx_summary, read_idx, write_idx
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
    assert idx_summary(str(tmp_path / 'set')) == (12, 12, 4)
    assert idx_summary(str(tmp_path / 'cats')) is None
    assert idx_summary(str(tmp_path / 'none')) is None
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
    assert idx_summary(str(tmp_path)) == (8, 8, 4)
    assert sorted(set(dataset.labels)) == [0, 1, 2, 3] and dataset.classes == 4
    assert dataset.contents.startswith('80 images in 4 classes: 40 in emnist-letters-')
    write_idx_set(tmp_path, prefix='emnist-digits-train')
    with pytest.raises(UserError, match='several data sets .*emnist-digits-.*letters'):
        open_set(tmp_path)


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
