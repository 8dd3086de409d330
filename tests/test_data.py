"""Data sets of IDX files and of folders of images."""

import gzip

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
    offered = {name for name in dir(idx) if name[0] != '_'} - {'images', 'size'}
    assert {'order', 'read', 'take'} <= offered <= {*dir(images)}


def test_idx_files_are_read_as_they_were_written(tmp_path):
    images, labels = write_idx_set(tmp_path)
    assert (read_idx(f'{tmp_path}/train-images-idx3-ubyte') == images).all()
    assert (read_idx(f'{tmp_path}/train-labels-idx1-ubyte') == labels).all()


def test_compressed_idx_files_are_read_like_others(tmp_path):
    write_idx_set(tmp_path / 'raw')
    (tmp_path / 'gz').mkdir()
    for path in (tmp_path / 'raw').iterdir():
        packed = gzip.compress(path.read_bytes())
        (tmp_path / 'gz' / f'{path.name}.gz').write_bytes(packed)
    raw, packed = open_set(tmp_path / 'raw'), open_set(tmp_path / 'gz')
    assert (raw.images == packed.images).all() and (raw.labels == packed.labels).all()


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
    assert (
        open_set(tmp_path / 'set').images == open_set(tmp_path / 'good').images
    ).all()


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


def test_summary_gives_size_and_classes_of_idx_folders_only(tmp_path):
    write_idx_set(tmp_path / 'set', size=12, classes=4)
    write_images(tmp_path / 'cats')
    assert idx_summary(str(tmp_path / 'set')) == (12, 12, 4)
    assert idx_summary(str(tmp_path / 'cats')) is None
    assert idx_summary(str(tmp_path / 'none')) is None


def test_idx_images_are_resized_to_the_output_size(tmp_path):
    write_idx_set(tmp_path, size=8)
    images, labels = open_set(tmp_path, size=(16, 12)).take(np.arange(4, 7))
    assert images.shape == (3, 16, 12, 1) and images.dtype == np.uint8
    assert labels.shape == (3,)


@pytest.mark.parametrize(
    ('content', 'message'),
    [
        (b'', 'not an IDX file'),
        (b'<html>sorry</html>', 'not an IDX file'),
        (b'\0\0\x08\x03\0\0', 'cannot be read'),
        (b'\0\0\x08\x01\0\0\0\x09abc', 'announces 9 bytes, but 3 follow'),
    ],
)
def test_corrupt_idx_file_is_reported_by_name(content, message, tmp_path):
    path = tmp_path / 'train-labels-idx1-ubyte'
    path.write_bytes(content)
    with pytest.raises(UserError, match=f'train-labels-idx1-ubyte: .*{message}'):
        read_idx(str(path))


def test_truncated_gz_file_is_reported_by_name(tmp_path):
    write_idx_set(tmp_path)
    packed = gzip.compress((tmp_path / 'train-images-idx3-ubyte').read_bytes())
    path = tmp_path / 'cut.gz'
    path.write_bytes(packed[: len(packed) // 2])
    with pytest.raises(UserError, match=r'cut\.gz: cannot be read'):
        read_idx(str(path))


def test_images_without_labels_are_reported(tmp_path):
    write_idx_set(tmp_path)
    (tmp_path / 'train-labels-idx1-ubyte').unlink()
    with pytest.raises(
        UserError, match='train-images-idx3-ubyte: its labels file is missing'
    ):
        open_set(tmp_path)


def test_labels_without_images_are_reported(tmp_path):
    write_idx_set(tmp_path, prefix='train')
    write_idx_set(tmp_path, prefix='t10k')
    (tmp_path / 'train-images-idx3-ubyte').unlink()
    with pytest.raises(
        UserError, match='train-labels-idx1-ubyte: its images file is missing'
    ):
        open_set(tmp_path)


def test_hidden_files_are_ignored(tmp_path):
    write_idx_set(tmp_path)
    (tmp_path / '._train-images-idx3-ubyte').write_bytes(b'')
    assert len(open_set(tmp_path)) == 40


@pytest.mark.parametrize('array', [np.zeros((0,)), np.zeros((4, 8, 8))])
def test_invalid_labels_are_rejected(array, tmp_path):
    write_idx_set(tmp_path)
    write_idx(f'{tmp_path}/train-labels-idx1-ubyte', array.astype(np.uint8))
    for read in (idx_summary, open_set):
        with pytest.raises(UserError, match='labels-idx1-ubyte: has shape'):
            read(str(tmp_path))


def test_different_numbers_of_images_and_labels_are_rejected(tmp_path):
    write_idx_set(tmp_path)
    write_idx(f'{tmp_path}/train-labels-idx1-ubyte', np.zeros(3, np.uint8))
    with pytest.raises(UserError, match='40 images, but 3 labels'):
        open_set(tmp_path)


@pytest.mark.parametrize('endings', [('train', 'test'), ('train', 'valid')])
def test_labels_of_emnist_letters_are_shifted_to_start_at_0(endings, tmp_path):
    for ending in endings:
        prefix = f'emnist-letters-{ending}'
        _, labels = write_idx_set(tmp_path, prefix=prefix)
        write_idx(f'{tmp_path}/{prefix}-labels-idx1-ubyte', labels + 1)
    dataset = open_set(tmp_path)
    assert idx_summary(str(tmp_path)) == (8, 8, 4)
    assert sorted(set(dataset.labels)) == [0, 1, 2, 3] and dataset.classes == 4
    assert dataset.contents.startswith('80 images in 4 classes: 40 in emnist-letters-')


def test_several_idx_sets_in_one_folder_are_rejected(tmp_path):
    for prefix in ('emnist-letters-train', 'emnist-digits-train'):
        write_idx_set(tmp_path, prefix=prefix)
    with pytest.raises(UserError, match='several data sets .*emnist-digits-.*letters'):
        open_set(tmp_path)


@pytest.mark.parametrize('channels', [1, 3])
@pytest.mark.parametrize('size', [8, 16])
def test_idx_images_can_have_channels(channels, size, tmp_path):
    write_idx_set(tmp_path)
    images = np.random.RandomState(0).randint(0, 256, (40, 8, 8, channels))
    write_idx(f'{tmp_path}/train-images-idx3-ubyte', images.astype(np.uint8))
    dataset = open_set(tmp_path, size=(size, size))
    assert dataset.c_dim == channels
    assert next(dataset.batches(5, 1))[0].shape == (5, size, size, channels)


def test_idx_images_with_two_channels_are_rejected(tmp_path):
    write_idx_set(tmp_path)
    images = np.zeros((40, 8, 8, 2), np.uint8)
    write_idx(f'{tmp_path}/train-images-idx3-ubyte', images)
    with pytest.raises(UserError, match='its images have 2 channels; only 1'):
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


def test_images_are_uint8_and_have_the_output_size(tmp_path):
    write_images(tmp_path)
    images, labels = next(open_set(tmp_path).batches(4, 1))
    assert images.shape == (4, 8, 8, 3) and images.dtype == np.uint8
    assert labels is None


def test_images_in_nested_folders_with_brackets_are_found(tmp_path):
    write_images(tmp_path / 'a [1]' / 'deep')
    assert len(open_set(tmp_path / 'a [1]', pattern='**/*.png')) == 10


def test_missing_folder_is_reported(tmp_path):
    with pytest.raises(UserError, match='none: no such data folder'):
        open_set(tmp_path / 'none')


def test_pattern_without_matches_reports_the_images_in_the_folder(tmp_path):
    write_images(tmp_path, count=3)
    (tmp_path / 'notes.txt').write_text('')
    message = r"no file matches '\*\.jpg'; the folder holds 3 \*\.png: try .*'\*\.png'"
    with pytest.raises(UserError, match=message):
        open_set(tmp_path, pattern='*.jpg')


def test_pattern_without_matches_reports_images_in_subfolders(tmp_path):
    write_images(tmp_path / 'deep', count=3)
    with pytest.raises(UserError, match=r"try --input_fname_pattern '\*\*/\*\.png'"):
        open_set(tmp_path, pattern='*.jpg')


def test_empty_folder_is_reported(tmp_path):
    with pytest.raises(UserError, match='the folder holds no other images'):
        open_set(tmp_path, pattern='*.jpg')
