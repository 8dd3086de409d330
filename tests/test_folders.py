"""Folders of images: finding, labelling, cropping, decoding ahead and caching them."""

import multiprocessing
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from conftest import ROOT, write_images
from PIL import Image

import utils
from dcgan.data.dataset import open_dataset
from dcgan.data.image_folder import ImageSet
from dcgan.util.errors import UserError

SAMPLE_NAME = {'train': '000.png', 'val': '001.png', 'test': '002.png'}


def open_set(
    folder, pattern=None, size=(8, 8), grayscale=False, seed=0, **dataset_options
):
    np.random.seed(seed)
    sizes = size, (20, 20)
    return open_dataset(
        str(folder), pattern, *sizes, False, grayscale, **dataset_options
    )


def names(dataset):
    return [os.path.basename(path) for path in dataset.files]


def all_batches(dataset, size=4, epochs=2):
    """The images of some epochs, as one array."""
    images = []
    for _ in range(epochs):
        dataset.shuffle()
        batches = dataset.batches(size, len(dataset) // size)
        images += [images for images, _ in batches]
    return np.concatenate(images)


def truncate(path):
    """Cut off the end of an image file."""
    path.write_bytes(path.read_bytes()[:-200])


# Finding images


@pytest.mark.parametrize('ending', ['jpeg', 'png', 'PNG', 'webp', 'bmp'])
def test_other_types_are_used_and_reported_if_there_is_no_jpg(ending, tmp_path, capsys):
    write_images(tmp_path, count=3, ending=ending)
    (tmp_path / 'notes.txt').write_text('')
    assert names(open_set(tmp_path)) == [f'{i:03d}.{ending}' for i in range(3)]
    assert f'no *.jpg files, so 3 *.{ending} are used' in capsys.readouterr().out


def test_only_jpg_is_used_if_there_is_any_and_the_rest_is_reported(tmp_path, capsys):
    write_images(tmp_path, count=3, ending='jpg')
    write_images(tmp_path, count=2, ending='png')
    assert len(open_set(tmp_path)) == 3
    assert 'only *.jpg files are used, not 2 *.png' in capsys.readouterr().out


def test_pattern_selects_exactly_the_files_that_match(tmp_path, capsys):
    write_images(tmp_path, count=3, ending='jpg')
    write_images(tmp_path, count=2, ending='png')
    assert len(open_set(tmp_path, '*.png')) == 2
    assert len(open_set(tmp_path, '*.PNG')) == 2  # in any case
    assert capsys.readouterr().out == ''
    with pytest.raises(UserError, match=r"no file matches '\*\.bmp'"):
        open_set(tmp_path, '*.bmp')


def test_jpg_in_capitals_is_the_same_type(tmp_path, capsys):
    write_images(tmp_path, count=3, ending='JPG')
    write_images(tmp_path / 'small', count=1, ending='jpg')
    (tmp_path / 'small' / '000.jpg').rename(tmp_path / 'a.jpg')
    assert len(open_set(tmp_path)) == 4
    assert capsys.readouterr().out == ''


@pytest.mark.parametrize('is_by_class', [False, True])
def test_files_of_systems_are_left_out_and_counted(is_by_class, tmp_path, capsys):
    for name in ('a', 'b', '__MACOSX/a', '.ipynb_checkpoints'):
        write_images(tmp_path / name, count=3)
    for name in (
        'Thumbs.db',
        'desktop.ini',
        'a/Thumbs.db',
        'b/._000.png',
        'b/.DS_Store',
    ):
        (tmp_path / name).write_text('not an image')
    pattern = '*' if is_by_class else '**/*'
    dataset = open_set(tmp_path, pattern, by_class=is_by_class)
    assert len(dataset) == 6 and dataset.classes == (2 if is_by_class else None)
    count = 1 if is_by_class else 6
    assert f'{count} system files are left out' in capsys.readouterr().out


def test_links_and_nested_folders_are_followed(tmp_path):
    write_images(tmp_path / 'elsewhere', count=3)
    write_images(tmp_path / 'set' / 'deep' / 'deeper', count=2)
    (tmp_path / 'set' / 'folder').symlink_to(tmp_path / 'elsewhere')
    (tmp_path / 'set' / 'file.png').symlink_to(tmp_path / 'elsewhere' / '000.png')
    dataset = open_set(tmp_path / 'set', '**/*.png')
    assert len(dataset) == 6 and next(dataset.batches(6, 1))[0].shape == (6, 8, 8, 3)


@pytest.mark.parametrize('pattern', ['**/*.png', '**', '*/**/*.png'])
def test_each_file_counts_once_under_links_in_a_loop(pattern, tmp_path):
    write_images(tmp_path / 'a' / 'deep', count=2)
    for link, target in (('a/up', '..'), ('a/here', '.'), ('z', 'a'), ('b', 'a')):
        (tmp_path / link).symlink_to(target)
    assert len(open_set(tmp_path, pattern)) == 2


@pytest.mark.parametrize('pattern', [None, '*.png'])
def test_images_in_subfolders_are_counted_where_they_are_not_used(
    pattern, tmp_path, capsys
):
    write_images(tmp_path, count=3)
    write_images(tmp_path / 'a' / 'b', count=4)
    write_images(tmp_path / '__MACOSX', count=1)
    assert len(open_set(tmp_path, pattern)) == 3
    line = (
        '4 *.png in subfolders are not used; for them, too, set --input_fname_pattern'
    )
    assert f"{line} '**/*.png'" in capsys.readouterr().out
    assert len(open_set(tmp_path, '**/*.png')) == 7
    assert capsys.readouterr().out.count('in subfolders') == 0


@pytest.mark.parametrize(
    'ending, way', [('heic', 'mogrify -format jpg'), ('npy', 'fromarray'), ('x', 'PNG')]
)
def test_files_that_are_no_images_are_named_with_a_way_out(ending, way, tmp_path):
    for i in range(3):
        (tmp_path / f'{i}.{ending}').write_text('')
    with pytest.raises(UserError, match=rf'only 3 \*\.{ending}: .*{way}'):
        open_set(tmp_path)


def test_folders_are_not_taken_for_images(tmp_path):
    write_images(tmp_path / 'deep', count=3, ending='jpg')
    (tmp_path / 'deep' / 'folder.jpg').mkdir()
    for pattern in ('**', '**/*', '**/*.jpg'):
        assert len(open_set(tmp_path, pattern)) == 3
    assert len(open_set(tmp_path / 'deep')) == 3


def test_color_images_can_be_read_in_grayscale(tmp_path):
    write_images(tmp_path, count=4)
    images, labels = next(open_set(tmp_path, grayscale=True).batches(4, 1))
    assert images.shape == (4, 8, 8, 1) and labels is None and np.ptp(images) > 9


# Classes


@pytest.fixture
def classes(tmp_path):
    """Images in class folders; the channel that is not black is the label."""
    for label, name in enumerate(['ant', 'bee', 'cat']):
        os.makedirs(tmp_path / name)
        for i in range(4 + label):
            pixels = np.zeros((8, 8, 3), np.uint8)
            pixels[label] = 255
            Image.fromarray(pixels).save(tmp_path / name / f'{i}.png')
    return tmp_path


@pytest.mark.parametrize('pattern', [None, '*.png', '*/*.png', '**/*.png'])
def test_class_folders_determine_the_labels(pattern, classes):
    dataset = open_set(classes, pattern, by_class=True)
    images, labels = next(dataset.batches(15, 1))
    assert (images[:, :, 0, 0].argmax(1) == labels).all()
    assert np.bincount(labels).tolist() == [4, 5, 6] and dataset.classes == 3
    assert dataset.contents == '15 images: 4 ant, 5 bee, 6 cat'


def test_each_class_may_have_its_own_image_type(classes):
    for path in (classes / 'bee').iterdir():
        Image.open(path).save(path.with_suffix('.jpg'))
        path.unlink()
    assert len(open_set(classes, by_class=True)) == 15


def test_replacement_image_brings_its_own_label(classes):
    for i in range(120):  # so that one unusable image is less than 1%
        Image.new('RGB', (8, 8)).save(classes / 'ant' / f'x{i}.png')
    (classes / 'cat' / '3.png').write_bytes(b'')
    dataset = open_set(classes, by_class=True)
    images, labels = next(dataset.batches(len(dataset), 1))
    colored = images[:, :, 0, 0].any(1)
    assert (images[colored, :, 0, 0].argmax(1) == labels[colored]).all()
    assert np.bincount(labels).sum() == 135 and len(dataset.unusable) == 1


def test_class_without_images_is_reported(classes):
    (classes / 'dog').mkdir()
    with pytest.raises(UserError, match='a class has no images .*, 0 dog'):
        open_set(classes, by_class=True)


def test_image_outside_the_class_folders_is_reported(classes):
    Image.new('RGB', (8, 8)).save(classes / 'stray.png')
    with pytest.raises(UserError, match=r'stray\.png is in no class folder'):
        open_set(classes, '**/*.png', by_class=True)


def test_folder_without_class_folders_is_reported(tmp_path):
    write_images(tmp_path)
    with pytest.raises(UserError, match='no class folders; --conditional needs one'):
        open_set(tmp_path, by_class=True)


# CelebA's lists


@pytest.fixture(params=['beside', 'above'])
def celeba(request, tmp_path):
    """Three PNG images, and lists of JPEG names beside them or one folder above."""
    folder = tmp_path / 'data' / 'celebA'
    write_images(folder, count=3)
    place = folder if request.param == 'beside' else folder.parent
    (place / 'list_eval_partition.txt').write_text(
        '000.jpg 0\n001.jpg 1\n002.jpg 2\n003.jpg 0\n'
    )
    (place / 'list_bbox_celeba.txt').write_text(
        '3\nimage_id x_1 y_1 width height\n'
        '000.jpg    2  3  10  12\n001.jpg  -5 -5 15 15\n002.jpg 0 0 0 0\n'
    )
    return folder


@pytest.mark.parametrize('partition', ['train', 'val', 'test'])
def test_partition_holds_the_images_that_the_list_assigns_to_it(partition, celeba):
    assert names(open_set(celeba, partition=partition)) == [SAMPLE_NAME[partition]]


def test_partition_all_needs_no_list(tmp_path):
    write_images(tmp_path, count=3)
    assert len(open_set(tmp_path, partition='all')) == 3


def test_images_are_cropped_to_the_part_of_the_box_inside_them(celeba):
    for name in ('000', '001'):
        image = Image.open(celeba / f'{name}.png')
        box = (2, 3, 12, 15) if name == '000' else (0, 0, 10, 10)
        image.crop(box).save(celeba / f'{name}.webp', lossless=True)
    boxed = open_set(celeba, '*.png', bbox=True)
    cropped = open_set(celeba, '*.webp')
    for i in range(2):
        assert (boxed._decode([i])[0] == cropped._decode([i])[0]).all()


@pytest.mark.parametrize(
    ('row', 'message'),
    [
        ('002.jpg 0 0 0 0', 'its bounding box (0, 0, 0, 0) lies outside the image'),
        ('004.jpg 0 0 9 9', 'it is not in the list of bounding boxes'),
    ],
)
def test_image_without_a_valid_box_cannot_be_used(row, message, celeba, capsys):
    rows = f'000.jpg 0 0 9 9\n001.jpg 0 0 9 9\n{row}\n'
    (celeba / 'list_bbox_celeba.txt').write_text(rows)
    with pytest.raises(UserError, match=r'002\.png'):
        all_batches(open_set(celeba, bbox=True), size=3)
    assert f'002.png: {message}' in capsys.readouterr().out


@pytest.mark.parametrize('dataset_options', [{'bbox': True}, {'partition': 'val'}])
def test_missing_list_is_reported_by_name(dataset_options, tmp_path):
    write_images(tmp_path)
    message = r'list_\w+\.txt is missing, .*"download.py celebA" downloads it'
    with pytest.raises(UserError, match=message):
        open_set(tmp_path, **dataset_options)


@pytest.mark.parametrize(
    ('content', 'message'),
    [
        (b'<html>\xff', "not one of CelebA's lists: invalid row '<html>"),
        (b'', 'truncated: 0 rows instead of 1'),
        (b'2\nimage_id x y w h\n000.jpg 1 2 3 4\n', 'truncated: 1 rows instead of 2'),
        (b'000.jpg 1 2 3 4\n001.jpg 1 2', "not one of CelebA's .* row '001.jpg 1 2'"),
        (b'000.jpg 1 2 3 x\n', "not one of CelebA's .* row '000.jpg 1 2 3 x'"),
    ],
)
def test_invalid_list_is_reported_by_name(content, message, celeba):
    (celeba / 'list_bbox_celeba.txt').write_bytes(content)
    with pytest.raises(UserError, match=rf'list_bbox_celeba\.txt: {message}'):
        open_set(celeba, bbox=True)


def test_columns_of_a_list_may_be_separated_by_commas(celeba):
    list_ = celeba / 'list_eval_partition.txt'
    list_.write_text('image_id,partition\n000.jpg,2\n001.jpg,2\n002.jpg,1\n')
    assert len(open_set(celeba, partition='test')) == 2


def test_images_that_are_missing_from_a_list_are_counted(celeba, capsys):
    (celeba / 'list_eval_partition.txt').write_text('000.jpg 2\n')
    assert len(open_set(celeba, partition='test')) == 1
    assert '2 images are left out: they are not in list_eval' in capsys.readouterr().out


def test_empty_partition_is_reported(celeba):
    (celeba / '001.png').unlink()
    with pytest.raises(UserError, match='has no images of partition val'):
        open_set(celeba, partition='val')


# Images that cannot be used


@pytest.fixture
def damaged(tmp_path):
    """A folder of 200 images. Two of them cannot be decoded."""
    write_images(tmp_path, count=200, size=(9, 9))
    truncate(tmp_path / '003.png')
    (tmp_path / '100.png').unlink()
    (tmp_path / '100.png').symlink_to('nowhere')
    return tmp_path


def test_undecodable_images_are_reported_once_and_replaced(damaged, capsys):
    images = all_batches(open_set(damaged), size=20, epochs=3)
    printed = capsys.readouterr().out.splitlines()
    assert len(images) == 600 and images.reshape(600, -1).any(1).all()
    assert len(printed) == 3 and '*.png are used' in printed[0]
    assert {line.split(': ')[0] for line in printed[1:]} == {
        ' [!] Image left out, 1 so far',
        ' [!] Image left out, 2 so far',
    }
    assert sum('003.png' in line for line in printed) == 1


@pytest.mark.parametrize('dataset_options', [{'num_workers': 2}, {'cache': True}])
def test_replacement_does_not_depend_on_workers_or_cache(dataset_options, damaged):
    without_workers = all_batches(open_set(damaged), size=20)
    assert (
        all_batches(open_set(damaged, **dataset_options), size=20) == without_workers
    ).all()


@pytest.mark.parametrize('dataset_options', [{}, {'num_workers': 2}, {'cache': True}])
def test_more_than_1_percent_unusable_images_are_an_error_that_lists_them(
    dataset_options, damaged
):
    (damaged / '050.png').write_bytes(b'')
    message = '3 of 200 .* more than 1%; .*003.png, .*050.png, .*100.png'
    with pytest.raises(UserError, match=message):
        all_batches(open_set(damaged, **dataset_options))
    assert not list(damaged.glob('.cache/*-*'))


def test_any_name_of_a_corrupt_image_can_be_printed(damaged, capfdbinary):
    os.rename(damaged / '003.png', os.fsencode(damaged) + b'/\n\xff.png')
    all_batches(open_set(damaged), size=50)
    printed = capfdbinary.readouterr().out.decode('ascii').splitlines()
    assert len(printed) == 3 and any('\\udcff.png' in line for line in printed)


def test_data_set_without_any_usable_image_is_an_error(tmp_path):
    for i in range(8):
        (tmp_path / f'{i}.jpg').write_text('<html>')
    with pytest.raises(UserError, match='1 of 8 images cannot be used'):
        next(open_set(tmp_path).batches(4, 1))


@pytest.mark.filterwarnings('ignore::PIL.Image.DecompressionBombWarning')
def test_decompression_bomb_counts_as_an_unusable_image(damaged, monkeypatch, capsys):
    monkeypatch.setattr(Image, 'MAX_IMAGE_PIXELS', 100)  # so that a small bomb will do
    Image.new('RGB', (11, 10)).save(damaged / '003.png')
    all_batches(open_set(damaged), size=50)
    assert '003.png: larger than 100 pixels' in capsys.readouterr().out


def test_image_above_the_limit_of_pillow_is_rejected(tmp_path):
    Image.new('1', (20000, 20000)).save(tmp_path / 'bomb.png')  # 50 kB
    with pytest.raises(UserError, match=r'bomb\.png: .*(exceeds limit|larger than)'):
        utils.imread(str(tmp_path / 'bomb.png'))


# Workers


@pytest.mark.parametrize('workers', [1, 2, 3])
def test_number_of_workers_does_not_change_the_batches(workers, tmp_path):
    write_images(tmp_path, count=21)
    without_workers = all_batches(open_set(tmp_path))
    assert (
        all_batches(open_set(tmp_path, num_workers=workers)) == without_workers
    ).all()


def test_decoding_ahead_draws_no_random_numbers(tmp_path):
    write_images(tmp_path, count=20)
    dataset = open_set(tmp_path, num_workers=2)
    before = np.random.get_state()[2]
    list(dataset.batches(4, 5))
    assert np.random.get_state()[2] == before


def test_each_worker_reads_ahead_by_at_most_two_batches(tmp_path):
    write_images(tmp_path, count=20)
    dataset, taken = open_set(tmp_path, num_workers=3), []

    def chunks():
        for i in range(20):
            taken.append(i)
            yield dataset._jobs([i])

    decoded = dataset.decoders.map(chunks())
    assert taken == []
    for i in range(10):
        next(decoded)
        assert len(taken) == i + 7


def test_batches_of_an_abandoned_epoch_do_not_reach_the_next(tmp_path):
    write_images(tmp_path, count=20)
    dataset = open_set(tmp_path, num_workers=2)
    next(dataset.batches(4, 5))
    assert (next(dataset.batches(4, 5))[0] == dataset.take(dataset.order[:4])[0]).all()


def test_death_of_a_worker_is_reported(tmp_path):
    write_images(tmp_path, count=20)
    dataset = open_set(tmp_path, num_workers=2)
    batches = dataset.batches(4, 5)
    next(batches)
    for process in dataset.decoders.processes:
        process.kill()
    with pytest.raises(
        UserError, match=r'ended with exit code -9: .*lower --num_workers'
    ):
        list(batches)


def test_workers_end_with_the_process_that_started_them(tmp_path):
    write_images(tmp_path, count=20)
    script = (
        'import os, signal\nfrom dcgan.data.dataset import open_dataset\n'
        f'dataset = open_dataset({str(tmp_path)!r}, None, (8, 8), (8, 8), 0, 0,'
        ' num_workers=2)\n'
        'batches = dataset.batches(4, 5)\n'
        'next(batches)\n'
        'print([p.pid for p in dataset.decoders.processes], flush=True)\n'
        'os.kill(os.getpid(), signal.SIGKILL)'
    )
    result = subprocess.run(
        [sys.executable, '-c', script], cwd=ROOT, capture_output=True, text=True
    )
    pids = [int(pid) for pid in result.stdout.splitlines()[-1].strip('[]').split(',')]
    assert len(pids) == 2
    assert wait_until(lambda: not any(is_running(pid) for pid in pids))
    assert result.stderr == ''


def wait_until(condition, seconds=20):
    """Whether the condition becomes true within this many seconds."""
    deadline = time.monotonic() + seconds
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.02)
    return condition()


def is_running(pid):
    try:
        return Path(f'/proc/{pid}/stat').read_text().split(') ')[1][0] != 'Z'
    except OSError:
        return False


# The cache


def cache_files(folder):
    return sorted((folder / '.cache').glob('[!.]*-*'))


def test_cache_gives_the_same_batches_and_is_built_once(tmp_path, capsys):
    write_images(tmp_path, count=21)
    without = all_batches(open_set(tmp_path))
    for built in (True, False):
        assert (all_batches(open_set(tmp_path, cache=True)) == without).all()
        assert ('cache: 100%' in capsys.readouterr().err) == built
    (path,) = cache_files(tmp_path)
    assert 21 * 8 * 8 * 3 <= path.stat().st_size < 21 * 8 * 8 * 3 + 40


def modify_an_image(folder):
    os.utime(folder / '000.png', ns=(0, 1))
    return {}


def add_an_image(folder):
    Image.new('RGB', (8, 8)).save(folder / 'new.png')
    return {}


@pytest.mark.parametrize('change', [modify_an_image, add_an_image])
def test_cache_is_replaced_if_the_image_files_change(change, tmp_path):
    write_images(tmp_path)
    open_set(tmp_path, cache=True)
    before = cache_files(tmp_path)
    change(tmp_path)
    dataset = open_set(tmp_path, cache=True)
    assert len(cache_files(tmp_path)) == 1 and cache_files(tmp_path) != before
    assert (all_batches(dataset) == all_batches(open_set(tmp_path))).all()


@pytest.mark.parametrize('change', [{'size': (9, 8)}, {'grayscale': True}])
def test_each_setting_has_a_separate_cache(change, tmp_path):
    write_images(tmp_path)
    open_set(tmp_path, cache=True)
    cached = all_batches(open_set(tmp_path, cache=True, **change))
    assert len(cache_files(tmp_path)) == 2
    assert (cached == all_batches(open_set(tmp_path, **change))).all()


@pytest.mark.parametrize('size', [0, 100, -1])
def test_corrupt_cache_is_rebuilt(size, tmp_path):
    write_images(tmp_path)
    open_set(tmp_path, cache=True)
    (path,) = cache_files(tmp_path)
    path.write_bytes(path.read_bytes()[:size])
    cached = all_batches(open_set(tmp_path, cache=True))
    assert (cached == all_batches(open_set(tmp_path))).all()


def test_existing_cache_is_used_without_writing(tmp_path):
    write_images(tmp_path)
    open_set(tmp_path, cache=True)
    (tmp_path / '.cache' / 'lock').unlink()
    (tmp_path / '.cache' / 'lock').mkdir()  # so that it could not be opened
    assert len(open_set(tmp_path, cache=True)) == 10


def test_images_that_failed_when_the_cache_was_built_are_tried_again(damaged):
    content, path = (damaged / '004.png').read_bytes(), damaged / '003.png'
    path.write_bytes(bytes(len(content)))
    times = path.stat().st_atime_ns, path.stat().st_mtime_ns
    open_set(damaged, cache=True)
    path.write_bytes(content)
    os.utime(path, ns=times)  # so that the cache stays valid
    cached = all_batches(open_set(damaged, cache=True), size=20)
    assert (cached == all_batches(open_set(damaged), size=20)).all()


def children():
    """The running processes that multiprocessing has started here."""
    return {*multiprocessing.active_children()}


def test_decoding_processes_end_when_the_cache_is_built(tmp_path, monkeypatch):
    write_images(tmp_path)
    before, during = children(), []
    monkeypatch.setattr(ImageSet, '_report_notes', lambda *_: during.append(children()))
    dataset = open_set(tmp_path, cache=True, num_workers=2)
    assert len(during[0] - before) == 2 and not children() - before
    assert len(dataset) == 10


def test_decoding_processes_end_with_close_and_start_again_when_needed(tmp_path):
    write_images(tmp_path, count=20)
    before, dataset = children(), open_set(tmp_path, num_workers=2)
    for _ in range(2):
        batches = dataset.batches(4, 5)
        next(batches)
        assert len(children() - before) == 2
        dataset.close()
        assert not children() - before
    assert len(list(dataset.batches(4, 5))) == 5
    del batches, dataset
    assert wait_until(lambda: not children() - before)


@pytest.mark.parametrize('dataset_options', [{}, {'num_workers': 1}])
def test_disk_error_is_not_reported_as_an_unusable_image(dataset_options, tmp_path):
    write_images(tmp_path, count=200)
    (tmp_path / '003.png').unlink()
    (tmp_path / '003.png').symlink_to('/proc/self/mem')  # reading it is an I/O error
    with pytest.raises(OSError, match=r'Input/output error: .*003\.png'):
        all_batches(open_set(tmp_path, **dataset_options))


BUILD = """
import sys
from dcgan.data.dataset import open_dataset
folder, size = sys.argv[1], (64, 64)
open_dataset(folder, None, size, (8, 8), 0, 0, cache=True)
"""


def test_next_run_rebuilds_a_cache_whose_building_was_killed(tmp_path):
    write_images(tmp_path, count=300, size=(200, 200))
    command = [sys.executable, '-c', BUILD, str(tmp_path)]
    process = subprocess.Popen(command, cwd=ROOT)
    while not list(tmp_path.glob('.cache/.*-*')):
        time.sleep(0.005)
    process.kill()
    process.wait()
    assert not cache_files(tmp_path)
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    assert list(tmp_path.glob('.cache/*-*')) == cache_files(tmp_path) != []


def test_two_simultaneous_runs_build_the_cache_once(tmp_path):
    write_images(tmp_path, count=300, size=(200, 200))
    command = [sys.executable, '-c', BUILD, str(tmp_path)]
    options = dict(cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    both = [subprocess.Popen(command, **options) for _ in range(2)]
    outputs = [process.communicate() for process in both]
    assert [process.returncode for process in both] == [0, 0]
    assert sum('cache: 100%' in err for _, err in outputs) == 1
    cached = open_set(tmp_path, size=(64, 64), cache=True)
    without = open_set(tmp_path, size=(64, 64))
    assert (next(cached.batches(50, 1))[0] == next(without.batches(50, 1))[0]).all()


def test_cache_that_cannot_be_written_is_reported(tmp_path):
    write_images(tmp_path)
    (tmp_path / '.cache').write_text('a file')
    with pytest.raises(UserError, match=r'\.cache: cannot be used .*; leave out --cac'):
        open_set(tmp_path, cache=True)


# What is said of a set


@pytest.mark.parametrize('options', [{}, {'num_workers': 2}, {'cache': True}])
def test_what_is_unexpected_is_said_once_for_a_set(options, tmp_path, capsys):
    for i in range(12):
        pixels = np.full((8, 8), 4000 + i, np.uint16)
        Image.fromarray(pixels).save(tmp_path / f'{i}.png')
    Image.new('RGBA', (8, 8)).save(tmp_path / 'a.png')
    Image.new('RGBA', (8, 8)).save(tmp_path / 'b.png')
    dataset = open_set(tmp_path, **options)
    all_batches(dataset, 7)
    dataset.close()
    out = capsys.readouterr().out
    assert out.count('gray images of 16 or 32 bits') == 1
    assert out.count('--background white') == 1
    assert 'Image left out' not in out


@pytest.mark.parametrize('options', [{}, {'num_workers': 2}, {'cache': True}])
def test_background_is_laid_under_a_set(options, tmp_path):
    for i in range(4):
        Image.new('RGBA', (8, 8)).save(tmp_path / f'{i}.png')
    dataset = open_set(tmp_path, background='white', **options)
    images = all_batches(dataset)
    dataset.close()
    # the contrast of one color is stretched to black
    assert images.max() == 0
    Image.new('RGBA', (8, 8)).save(tmp_path / 'a.png')
    with pytest.raises(UserError, match=r"--background 'whit': not a color"):
        open_set(tmp_path, background='whit')
