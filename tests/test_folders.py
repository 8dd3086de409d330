"""Folders of images: finding, labelling, cropping, decoding ahead and caching them."""

import os
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from conftest import ROOT, write_images
from PIL import Image

from dcgan.data.dataset import open_dataset
from dcgan.data.image_folder import ImageSet
from dcgan.util.errors import UserError

# where images are decoded must not change what is read
PLACES = [{}, {'num_workers': 2}, {'cache': True}]
PIPES = dict(stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def open_set(folder, pattern=None, size=(8, 8), grayscale=False, **options):
    np.random.seed(0)
    sizes = size, (20, 20)
    return open_dataset(str(folder), pattern, *sizes, False, grayscale, **options)


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


# Finding images


@pytest.mark.parametrize('ending', ['jpeg', 'png', 'PNG', 'webp', 'bmp'])
def test_other_types_are_used_and_reported_if_there_is_no_jpg(ending, tmp_path, capsys):
    write_images(tmp_path, count=3, ending=ending)
    (tmp_path / 'notes.txt').write_text('')
    assert names(open_set(tmp_path)) == [f'{i:03d}.{ending}' for i in range(3)]
    assert f'no *.jpg files, so 3 *.{ending} are used' in capsys.readouterr().out


def test_only_jpg_in_any_case_is_used_if_there_is_any(tmp_path, capsys):
    write_images(tmp_path, count=3, ending='jpg')
    (tmp_path / '000.jpg').rename(tmp_path / '000.JPG')
    assert len(open_set(tmp_path)) == 3 and capsys.readouterr().out == ''
    write_images(tmp_path, count=2, ending='png')
    assert len(open_set(tmp_path)) == 3
    assert 'only *.jpg files are used, not 2 *.png' in capsys.readouterr().out


def test_pattern_selects_exactly_the_files_that_match(tmp_path, capsys):
    folder = tmp_path / 'a [1]'
    write_images(folder, count=3, ending='jpg')
    write_images(folder, count=2, ending='png')
    assert len(open_set(folder, '*.png')) == len(open_set(folder, '*.PNG')) == 2
    assert capsys.readouterr().out == ''


@pytest.mark.parametrize('is_by_class', [False, True])
def test_files_of_systems_are_left_out_and_counted(is_by_class, tmp_path, capsys):
    for name in ('a', 'b', '__MACOSX/a', '.ipynb_checkpoints'):
        write_images(tmp_path / name, count=3)
    junk = 'Thumbs.db desktop.ini a/Thumbs.db b/._000.png b/.DS_Store'
    for name in junk.split():
        (tmp_path / name).write_text('not an image')
    pattern = '*' if is_by_class else '**/*'
    dataset = open_set(tmp_path, pattern, by_class=is_by_class)
    assert len(dataset) == 6 and dataset.classes == (2 if is_by_class else None)
    count = 3 if is_by_class else 8
    assert f'{count} system files are left out' in capsys.readouterr().out


@pytest.mark.parametrize(
    'junk',
    [
        'ehthumbs.db',
        'IconCache.db',
        'a.lnk',
        '~$a.png',
        '.hidden.png',
        '000.png:Zone.Identifier',
        '000.png@SynoEAStream',
        'Icon\r',
        '000.png:mshield',
        'digikam4.db-journal',
        '000.png.filepart',
        '000.png.!sync',
        '000.png~',
        '000.png_original',
        '@eaDir/000.png/SYNOPHOTO_THUMB_M.png',
        '@__thumb/default000.png',
        'FOUND.000/FILE0000.CHK',
        'LOST.DIR/000.png',
        'RECYCLER/S-1-5/Dc1.png',
        '#recycle/000.png',
        '$RECYCLE.BIN/000.png',
        '~snapshot/000.png',
        'System Volume Information/000.png',
    ],
)
def test_what_systems_leave_is_no_image(junk, tmp_path, capsys):
    for folder in ('a', 'b'):
        write_images(tmp_path / folder, count=2)
        os.makedirs((tmp_path / folder / junk).parent, exist_ok=True)
        Image.new('RGB', (8, 8)).save(tmp_path / folder / junk, 'PNG')
    assert len(open_set(tmp_path / 'a', '*')) == len(open_set(tmp_path / 'a')) == 2
    assert len(open_set(tmp_path, '**/*')) == 4
    assert '2 system files are left out' in capsys.readouterr().out


def test_folders_named_with_signs_hold_images(tmp_path):
    names = ['@home', '#1', '$5', '~x', 'tmp', 'snapshots', 'dbs', 'synopsis']
    names += ['Recycled', '#recycledfashion', '@snapshot_club', '@synonyms']
    for name in names:
        write_images(tmp_path / name, count=1)
        (tmp_path / name / '000.png').rename(tmp_path / name / '2024.01.01:1.at:12.png')
    assert sorted(open_set(tmp_path, by_class=True).class_names) == sorted(names)


@pytest.mark.parametrize(
    'folder',
    ['@eaDir', 'lost+found', 'empty', 'deep/empty', 'Temporary Items', '$RECYCLE.BIN'],
)
def test_folders_without_images_are_no_classes(folder, tmp_path, capsys):
    for name in ('ant', 'bee'):
        write_images(tmp_path / name, count=2)
    (tmp_path / folder).mkdir(parents=True)
    (tmp_path / folder / 'notes.txt').touch()
    (tmp_path / folder / 'Thumbs.db').touch()
    if folder[0] in '@$':
        write_images(tmp_path / folder, count=1)
    assert open_set(tmp_path, by_class=True).class_names == ['ant', 'bee']
    line = f'1 folders hold no images of the set, such as {folder.split("/")[0]}'
    assert line in capsys.readouterr().out


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
    (tmp_path / 'a' / 'folder.png').mkdir()  # is not taken for an image
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
    line = '4 *.png in subfolders are not used; for them, too, set'
    assert f"{line} --input_fname_pattern '**/*.png'" in capsys.readouterr().out
    assert len(open_set(tmp_path, '**/*.png')) == 7
    assert 'in subfolders' not in capsys.readouterr().out


def test_folder_without_matches_is_described_with_a_way_out(tmp_path):
    ways = {
        'a.png b.png c.x': r"'\*\.jpg'; the folder holds 2 \*\.png: try .*'\*\.png'$",
        'deep/a.png': r"'\*\*/\*\.png' or, if the folders are classes, --conditional",
        'a.heic b.heic': r'only 2 \*\.heic: .*mogrify -format jpg',
        'a.npy': r'only 1 \*\.npy: .*fromarray',
        'a.x b.x c': r'only 2 \*\.x, 1 files without an extension: .*to PNG or JPEG',
        '': 'and the folder holds no other images$',
    }
    for number, (files, way) in enumerate(ways.items()):
        (tmp_path / f'{number}' / 'deep').mkdir(parents=True)
        for name in files.split():
            (tmp_path / f'{number}' / name).touch()
        with pytest.raises(UserError, match=f'no file matches .*{way}'):
            open_set(tmp_path / f'{number}', '*.jpg')


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
    for path in (classes / 'bee').iterdir():  # the type of each class may differ
        path.rename(path.with_suffix('.jpg'))
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


def test_folders_that_are_no_classes_are_reported(classes):
    Image.new('RGB', (8, 8)).save(classes / 'stray.png')
    with pytest.raises(UserError, match=r'stray\.png is in no class folder'):
        open_set(classes, '**/*.png', by_class=True)
    (classes / 'dog').mkdir()
    (classes / 'dog' / 'a.gif').touch()
    with pytest.raises(UserError, match='a class has no images .*, 0 dog'):
        open_set(classes, by_class=True)
    with pytest.raises(UserError, match='no class folders; --conditional needs one'):
        open_set(classes / 'ant', by_class=True)


# CelebA's lists


@pytest.fixture
def celeba(tmp_path):
    """Three PNG images, and lists of JPEG names beside and above them."""
    folder = tmp_path / 'data' / 'celebA'
    write_images(folder, count=3)
    (folder / 'list_eval_partition.txt').write_text(
        '000.jpg 0\n001.jpg 1\n002.jpg 2\n003.jpg 0\n'
    )
    (folder.parent / 'list_bbox_celeba.txt').write_text(
        '3\nimage_id x_1 y_1 width height\n'
        '000.jpg    2  3  10  12\n001.jpg  -5 -5 15 15\n002.jpg 0 0 0 0\n'
    )
    return folder


def test_partition_holds_the_images_that_the_list_assigns_to_it(celeba):
    for i, partition in enumerate(['train', 'val', 'test']):
        assert names(open_set(celeba, partition=partition)) == [f'00{i}.png']
    (celeba / '001.png').unlink()
    with pytest.raises(UserError, match='has no images of partition val'):
        open_set(celeba, partition='val')
    (celeba / 'list_eval_partition.txt').unlink()
    assert len(open_set(celeba, partition='all')) == 2
    missing = r'partition\.txt is missing, .*py celebA" down'
    with pytest.raises(UserError, match=missing):
        open_set(celeba, partition='val')


def test_images_are_cropped_to_the_part_of_the_box_inside_them(celeba):
    for name in ('000', '001'):
        image = Image.open(celeba / f'{name}.png')
        box = (2, 3, 12, 15) if name == '000' else (0, 0, 10, 10)
        image.crop(box).save(celeba / f'{name}.webp', lossless=True)
    boxed = open_set(celeba, '*.png', bbox=True)
    cropped = open_set(celeba, '*.webp')
    for i in range(2):
        assert (boxed._decode([i])[0] == cropped._decode([i])[0]).all()


def test_image_without_a_valid_box_cannot_be_used(celeba, capsys):
    problems = {
        '002.jpg 0 0 0 0': 'its bounding box (0, 0, 0, 0) lies outside the image',
        '002.jpg 20 0 9 9': 'its bounding box (20, 0, 9, 9) lies outside the image',
        '004.jpg 0 0 9 9': 'it is not in the list of bounding boxes',
    }
    for row, problem in problems.items():
        rows = f'000.jpg 0 0 9 9\n001.jpg 0 0 9 9\n{row}\n'
        (celeba / 'list_bbox_celeba.txt').write_text(rows)
        with pytest.raises(UserError, match=r'002\.png'):
            all_batches(open_set(celeba, bbox=True), size=3)
        assert f'002.png: {problem}' in capsys.readouterr().out


def test_invalid_list_is_reported_by_name(celeba):
    problems = {
        b'<html>\xff': r"not one of CelebA's lists \(row 1, '<html>",
        b'': r'.* \(truncated: 0 rows instead of 1',
        b'2\nimage_id x y w h\n000.jpg 1 2 3 4\n': '.*truncated: 1 rows instead of 2',
        b'000.jpg 1 2 3 4\n001.jpg 1 2': "not one of CelebA's .*row 2, '001.jpg 1 2'",
    }
    for content, problem in problems.items():
        (celeba / 'list_bbox_celeba.txt').write_bytes(content)
        with pytest.raises(UserError, match=rf'list_bbox_celeba\.txt: {problem}'):
            open_set(celeba, bbox=True)


def test_list_may_have_commas_and_lack_images(celeba, capsys):
    list_ = celeba / 'list_eval_partition.txt'
    list_.write_text('image_id,partition\n000.jpg,2\n001.jpg,1\n')
    assert len(open_set(celeba, partition='test')) == 1
    assert '1 of 3 images have no row in list_eval' in capsys.readouterr().out


# Images that cannot be used


@pytest.fixture
def damaged(tmp_path):
    """A folder of 200 images. Two of them cannot be decoded."""
    write_images(tmp_path, count=200, size=(9, 9))
    path = tmp_path / '003.png'
    path.write_bytes(path.read_bytes()[:-200])
    (tmp_path / '100.png').unlink()
    (tmp_path / '100.png').symlink_to('nowhere')
    return tmp_path


def test_undecodable_images_are_reported_once_and_replaced(damaged, capsys):
    images = all_batches(open_set(damaged), size=20, epochs=3)
    printed = capsys.readouterr().out.splitlines()
    assert len(images) == 600 and images.reshape(600, -1).any(1).all()
    assert len(printed) == 3 and '*.png are used' in printed[0]
    starts = [line.split(' so far: ')[0] for line in printed[1:]]
    assert starts == [' [!] Image left out, 1', ' [!] Image left out, 2']
    assert sum('003.png' in line for line in printed) == 1


def test_replacement_is_the_image_that_follows_the_batch(damaged):
    dataset = open_set(damaged)
    whole = [images for images, _ in dataset.batches(20, 10)]
    for end, images in zip(range(20, 220, 20), whole):
        following = iter(np.roll(dataset.order, -end))
        expected = [
            next(following) if index in (3, 100) else index
            for index in dataset.order[end - 20 : end]
        ]
        assert (images == dataset.take(np.array(expected))[0]).all()
    for part in (slice(0, 5), slice(5, 20)):
        parts = [images for images, _ in dataset.batches(20, 10, part=part)]
        assert all((a == b[part]).all() for a, b in zip(parts, whole, strict=True))
    ((images, _),) = dataset.read([np.arange(2, 5)])  # of the list of files
    assert (images == dataset.take(np.array([2, 4, 4]))[0]).all()


def test_digest_tells_changed_files_by_their_times_or_not(images):
    dataset = open_set(images)
    before = dataset.digest(), dataset.digest(by_time=False)
    os.utime(images / '000.png', ns=(0, 1))
    assert dataset.digest() != before[0]
    assert dataset.digest(by_time=False) == before[1]


@pytest.mark.parametrize('options', PLACES)
def test_above_1_percent_unusable_images_are_listed_and_below_they_are_replaced(
    options, damaged
):
    expected = all_batches(open_set(damaged), size=20)
    assert (all_batches(open_set(damaged, **options), size=20) == expected).all()
    (damaged / '050.png').write_bytes(b'')
    message = '3 of 200 .* more than 1%; .*003.png, .*050.png, .*100.png'
    with pytest.raises(UserError, match=message):
        all_batches(open_set(damaged, **options))
    assert not list(damaged.glob('.cache/*-*'))


def test_any_name_of_a_corrupt_image_can_be_printed(damaged, capfdbinary):
    os.rename(damaged / '003.png', os.fsencode(damaged) + b'/\n\xff.png')
    all_batches(open_set(damaged), size=50)
    printed = capfdbinary.readouterr().out.decode('ascii').splitlines()
    assert len(printed) == 3 and any('\\udcff.png' in line for line in printed)


@pytest.mark.parametrize('num_workers', [0, 1])
def test_image_above_max_pixels_counts_as_unusable(damaged, num_workers, capsys):
    Image.new('RGB', (11, 10)).save(damaged / '003.png')
    options = {'num_workers': num_workers, 'max_pixels': 100}
    all_batches(open_set(damaged, **options), size=50)
    assert '003.png: larger than 100 pixels' in capsys.readouterr().out
    all_batches(open_set(damaged, **{**options, 'max_pixels': 110}), size=50)
    assert '003.png' not in capsys.readouterr().out


@pytest.mark.parametrize(
    'name', ['../other/', '{}/other/', 'sub/../../other/', './../other/', 'out/../']
)
def test_names_that_lead_out_of_the_folder_are_refused(name, tmp_path):
    write_images(tmp_path / 'set' / 'sub', count=3)
    write_images(tmp_path / 'other' / 'out', count=3)
    write_images(tmp_path / 'other', count=3)
    (tmp_path / 'set' / 'out').symlink_to(tmp_path / 'other' / 'out')
    name = name.format(tmp_path)
    for pattern in f'{name}*.png', f'{name}**/*.png', f'**/{name}*.png':
        if pattern.startswith('**') and '..' not in pattern:
            continue
        with pytest.raises(UserError, match='_fname_pattern .* leads out of .*/set; '):
            open_set(tmp_path / 'set', pattern)
    rows = [f'{name}00{i}.png,{i}\n' for i in range(3)]
    (tmp_path / 'labels.csv').write_text(''.join(rows))
    with pytest.raises(UserError, match='leads out of the folder|may be|no file'):
        labels = str(tmp_path / 'labels.csv')
        open_set(tmp_path / 'set', by_class=True, labels=labels)
    assert len(open_set(tmp_path / 'other').files) == 3  # where a flag names it
    assert len(open_set(tmp_path / 'set' / '..' / 'other').files) == 3


@pytest.mark.parametrize('name', ['sub/', 'out/', '{}/set/sub/'])
def test_names_that_stay_in_the_folder_and_links_are_followed(name, tmp_path):
    write_images(tmp_path / 'set' / 'sub', count=3)
    write_images(tmp_path / 'other', count=3)
    (tmp_path / 'set' / 'out').symlink_to(tmp_path / 'other')
    name = name.format(tmp_path)
    assert len(open_set(tmp_path / 'set', f'{name}*.png').files) == 3
    rows = [f'sub/../sub/00{i}.png,{i}\n' for i in range(3)]
    (tmp_path / 'labels.csv').write_text(''.join(rows))
    labels = str(tmp_path / 'labels.csv')
    assert open_set(tmp_path / 'set', by_class=True, labels=labels).classes == 3


def test_a_pipe_among_the_images_counts_as_unusable(damaged, capsys):
    (damaged / '003.png').unlink()
    os.mkfifo(damaged / '003.png')
    all_batches(open_set(damaged, num_workers=1), size=50)
    assert '003.png: not a readable image (it is no' in capsys.readouterr().out


def test_max_pixels_leaves_caches_valid(images, capfd):
    first = all_batches(open_set(images, cache=True))
    again = all_batches(open_set(images, cache=True, max_pixels=10**9))
    assert (first == again).all() and len(list(images.glob('.cache/*-*'))) == 1


@pytest.mark.parametrize('options', [{}, {'num_workers': 1}])
def test_disk_error_is_not_reported_as_an_unusable_image(options, images):
    (images / '003.png').unlink()
    (images / '003.png').symlink_to('/proc/self/mem')  # reading it is an I/O error
    with pytest.raises(OSError, match=r'Input/output error: .*003\.png'):
        all_batches(open_set(images, **options))


# Workers


@pytest.fixture
def images(tmp_path):
    """A folder of 20 images."""
    write_images(tmp_path, count=20)
    return tmp_path


def children():
    """The ids of the running processes that this one has started."""
    command = ['pgrep', '-P', str(os.getpid())]
    pids = subprocess.run(command, stdout=subprocess.PIPE).stdout.split()
    return {pid for pid in map(int, pids) if not has_ended(pid)}


def wait_until(condition, seconds=20):
    """Whether the condition becomes true within this many seconds."""
    deadline = time.monotonic() + seconds
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.02)
    return condition()


@pytest.mark.parametrize('workers', [1, 3])
def test_number_of_workers_does_not_change_the_batches(workers, images):
    without_workers = all_batches(open_set(images), size=3)
    position = np.random.get_state()[2]
    with_workers = all_batches(open_set(images, num_workers=workers), size=3)
    assert (with_workers == without_workers).all()
    assert np.random.get_state()[2] == position  # of the random numbers


def test_each_worker_reads_ahead_by_at_most_two_batches(images):
    dataset, taken = open_set(images, num_workers=3), []

    def chunks():
        for i in range(20):
            taken.append(i)
            yield dataset._jobs([i])

    decoded = dataset.decoders.map(chunks())
    assert taken == []
    for i in range(10):
        next(decoded)
        assert len(taken) == i + 7


def test_batches_of_an_abandoned_epoch_do_not_reach_the_next(images):
    dataset = open_set(images, num_workers=2)
    next(dataset.batches(4, 5))
    assert (next(dataset.batches(4, 5))[0] == dataset.take(dataset.order[:4])[0]).all()


def test_death_of_a_worker_is_reported(images):
    dataset = open_set(images, num_workers=2)
    batches = dataset.batches(4, 5)
    next(batches)
    for process in dataset.decoders.processes:
        process.kill()
    message = 'ended with exit code -9: .*lower --num_workers'
    with pytest.raises(UserError, match=message):
        list(batches)


def test_decoding_processes_end_when_the_cache_is_built(images, monkeypatch):
    before, during = children(), []
    monkeypatch.setattr(ImageSet, '_report_notes', lambda *_: during.append(children()))
    dataset = open_set(images, cache=True, num_workers=2)
    assert len(during[0] - before) == 2 and not children() - before
    assert len(dataset) == 20


def test_decoding_processes_get_no_signals_of_the_group_and_end_with_close(images):
    before, dataset = children(), open_set(images, num_workers=2)

    def started():
        return children() - before

    for _ in range(2):  # they start again when needed
        batches = dataset.batches(4, 5)
        next(batches)
        assert len(started()) == 2
        assert wait_until(lambda: os.getpgid(0) not in map(os.getpgid, started()))
        dataset.close()
        assert wait_until(lambda: not started())  # a thread may wait for one, too
    assert len(list(dataset.batches(4, 5))) == 5
    del batches, dataset
    assert wait_until(lambda: not started())


SCRIPT = """
import os, signal, sys
from dcgan.data.dataset import open_dataset
from dcgan.data import decoding
signal.signal(signal.SIGINT, lambda *_: None)
start = decoding.start_process
# Ctrl-C while the processes start
decoding.start_process = lambda: (start(), os.killpg(0, signal.SIGINT))[0]
dataset = open_dataset(sys.argv[1], None, (8, 8), (8, 8), 0, 0, num_workers=2)
next(dataset.batches(4, 5))
for process in dataset.decoders.processes:
    print(process.pid, flush=True)
os.kill(os.getpid(), int(sys.argv[2]))
"""


def has_ended(pid):
    try:
        return Path(f'/proc/{pid}/stat').read_text().split(') ')[1][0] == 'Z'
    except OSError:
        return True


@pytest.mark.parametrize('number', [signal.SIGTERM, signal.SIGKILL])
def test_workers_of_a_script_do_not_run_it_and_end_with_it(number, images):
    (images / 'script.py').write_text(SCRIPT)
    command = [sys.executable, images / 'script.py', images, str(int(number))]
    settings = dict(cwd='/', env={**os.environ, 'PYTHONPATH': str(ROOT)}, **PIPES)
    result = subprocess.run(command, **settings, start_new_session=True)
    pids = result.stdout.splitlines()[-2:]
    assert result.returncode == -number and result.stderr == '' and len(pids) == 2
    assert wait_until(lambda: all(map(has_ended, pids)))


# The cache


def cache_files(folder):
    return sorted((folder / '.cache').glob('[!.]*-*'))


def test_cache_gives_the_same_batches_and_is_built_once(images, capsys):
    without = all_batches(open_set(images))
    for is_built in (True, False):
        assert (all_batches(open_set(images, cache=True)) == without).all()
        assert ('cache: 100%' in capsys.readouterr().err) == is_built
        if is_built:
            (images / '.cache' / 'lock').unlink()
            (images / '.cache' / 'lock').mkdir()  # so that it could not be opened
    (path,) = cache_files(images)
    assert 20 * 8 * 8 * 3 <= path.stat().st_size < 20 * 8 * 8 * 3 + 40


def test_corrupt_cache_is_rebuilt_and_one_of_other_image_files_is_replaced(images):
    def cached_path():
        cached = all_batches(open_set(images, cache=True))
        assert (cached == all_batches(open_set(images))).all()
        (path,) = cache_files(images)
        return path

    path = cached_path()
    for size in (0, 100, -1):
        path.write_bytes(path.read_bytes()[:size])
        assert cached_path() == path
    os.utime(images / '000.png', ns=(0, 1))
    changed = cached_path()
    Image.new('RGB', (8, 8)).save(images / 'new.png')
    assert len({path, changed, cached_path()}) == 3


def test_each_setting_has_a_separate_cache(images):
    for count, change in enumerate([{}, {'size': (9, 8)}, {'grayscale': True}], 1):
        cached = all_batches(open_set(images, cache=True, **change))
        assert len(cache_files(images)) == count
        assert (cached == all_batches(open_set(images, **change))).all()


def test_images_that_failed_when_the_cache_was_built_are_tried_again(damaged):
    content, path = (damaged / '004.png').read_bytes(), damaged / '003.png'
    path.write_bytes(bytes(len(content)))
    times = path.stat().st_atime_ns, path.stat().st_mtime_ns
    open_set(damaged, cache=True)
    path.write_bytes(content)
    os.utime(path, ns=times)  # so that the cache stays valid
    cached = all_batches(open_set(damaged, cache=True), size=20)
    assert (cached == all_batches(open_set(damaged), size=20)).all()


@pytest.mark.parametrize('problem', ['a file', 'a full disk', 'no memory map'])
def test_a_cache_that_cannot_be_used_is_left_out(problem, images, monkeypatch, capsys):
    expected, limits = all_batches(open_set(images)), None
    if problem == 'a file':
        (images / '.cache').write_text(problem)
    elif problem == 'a full disk':
        limits = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (100, limits[1]))
    else:
        monkeypatch.setattr('numpy.memmap', None)
    try:
        data = open_set(images, cache=True)
    finally:
        if limits:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert (all_batches(data) == expected).all()
    printed = capsys.readouterr().out
    assert printed.count(f' [!] No --cache in {images}/.cache: ') == 1


BUILD = """
import sys
from dcgan.data.dataset import open_dataset
open_dataset(sys.argv[1], None, (64, 64), (8, 8), 0, 0, cache=True)
"""
KILLED = """
import os, signal
from dcgan.data.image_folder import ImageSet
decode_all = ImageSet._decode_all
def killed(dataset, progress):
    yield next(decode_all(dataset, progress))
    os.kill(os.getpid(), signal.SIGKILL)
ImageSet._decode_all = killed
"""


@pytest.mark.slow
def test_runs_build_the_cache_once_and_anew_after_a_kill(tmp_path):
    write_images(tmp_path, count=300, size=(200, 200))
    killed, command = (
        [sys.executable, '-c', c, tmp_path] for c in (KILLED + BUILD, BUILD)
    )
    assert subprocess.run(killed, cwd=ROOT, **PIPES).returncode == -signal.SIGKILL
    assert list(tmp_path.glob('.cache/.*-*'))
    assert not cache_files(tmp_path)
    both = [subprocess.Popen(command, cwd=ROOT, **PIPES) for _ in range(2)]
    outputs = [process.communicate() for process in both]
    assert [process.returncode for process in both] == [0, 0]
    assert sum('cache: 100%' in err for _, err in outputs) == 1
    assert list(tmp_path.glob('.cache/*-*')) == cache_files(tmp_path)
    cached = open_set(tmp_path, size=(64, 64), cache=True)
    without = open_set(tmp_path, size=(64, 64))
    assert (next(cached.batches(50, 1))[0] == next(without.batches(50, 1))[0]).all()


# What is said of a set


@pytest.mark.filterwarnings('ignore:Corrupt EXIF')  # Pillow's, and not printed
@pytest.mark.parametrize('options', PLACES)
def test_what_is_unexpected_is_said_once_for_a_set(options, tmp_path, capfd):
    for i in range(12):
        pixels = np.full((8, 8), 4000 + i, np.uint16)
        Image.fromarray(pixels).save(tmp_path / f'{i}.png')
    for name in 'ab':
        Image.new('RGBA', (8, 8)).save(tmp_path / f'{name}.png')
    exif = b'Exif\0\0II*\0\x08\0\0\0\x05\0'
    Image.new('RGB', (8, 8)).save(tmp_path / 'c.png', 'JPEG', exif=exif)
    all_batches(open_set(tmp_path, **options), 7)
    out, err = capfd.readouterr()
    assert 'Warning' not in err
    assert out.count('gray images of 16 or 32 bits') == 1
    assert out.count('--background white') == 1
    assert 'Image left out' not in out


@pytest.mark.parametrize('options', PLACES)
def test_background_is_laid_under_a_set(options, tmp_path):
    for i in range(4):  # half transparent, half black
        image = Image.new('RGBA', (8, 8))
        image.paste((0, 0, 0, 255), (0, 0, 4, 8))
        image.save(tmp_path / f'{i}.png')
    images = all_batches(open_set(tmp_path, background='white', **options))
    assert (images[:, :, :4] == 0).all() and (images[:, :, 4:] == 255).all()
    with pytest.raises(UserError, match=r"--background 'whit': not a color"):
        open_set(tmp_path, background='whit')
