"""Folders of pictures: what is found, labelled, cropped, decoded ahead and cached."""

import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from conftest import ROOT, write_pictures
from PIL import Image

import utils
from dcgan.datasets import open_dataset
from dcgan.errors import UserError

SAMPLE_NAME = {'train': '000.png', 'val': '001.png', 'test': '002.png'}


def open_set(folder, pattern=None, size=(8, 8), grayscale=False, seed=0, **reading):
    np.random.seed(seed)
    sizes = size, (20, 20)
    return open_dataset(str(folder), pattern, *sizes, False, grayscale, **reading)


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


def tear(path):
    """Cut a picture's file short."""
    path.write_bytes(path.read_bytes()[:-200])


# What is found


@pytest.mark.parametrize('ending', ['JPG', 'jpeg', 'png', 'PNG', 'webp', 'bmp'])
def test_other_types_are_used_where_there_is_no_jpg_and_it_is_said(
    ending, tmp_path, capsys
):
    write_pictures(tmp_path, count=3, ending=ending)
    (tmp_path / 'notes.txt').write_text('')
    assert names(open_set(tmp_path)) == [f'{i:03d}.{ending}' for i in range(3)]
    assert f'no *.jpg, so 3 *.{ending} are used' in capsys.readouterr().out


def test_jpg_alone_is_used_where_there_is_any_and_the_rest_is_said(tmp_path, capsys):
    write_pictures(tmp_path, count=3, ending='jpg')
    write_pictures(tmp_path, count=2, ending='png')
    assert len(open_set(tmp_path)) == 3
    assert 'only *.jpg is used, not 2 *.png' in capsys.readouterr().out


def test_a_pattern_that_is_given_is_obeyed_exactly(tmp_path, capsys):
    write_pictures(tmp_path, count=3, ending='jpg')
    write_pictures(tmp_path, count=2, ending='png')
    assert len(open_set(tmp_path, '*.png')) == 2
    assert capsys.readouterr().out == ''
    with pytest.raises(UserError, match=r"no file matches '\*\.PNG'"):
        open_set(tmp_path, '*.PNG')


def test_links_and_nested_folders_are_followed(tmp_path):
    write_pictures(tmp_path / 'elsewhere', count=3)
    write_pictures(tmp_path / 'set' / 'deep' / 'deeper', count=2)
    (tmp_path / 'set' / 'folder').symlink_to(tmp_path / 'elsewhere')
    (tmp_path / 'set' / 'file.png').symlink_to(tmp_path / 'elsewhere' / '000.png')
    dataset = open_set(tmp_path / 'set', '**/*.png')
    assert len(dataset) == 6 and next(dataset.batches(6, 1))[0].shape == (6, 8, 8, 3)


def test_folders_are_no_pictures(tmp_path):
    write_pictures(tmp_path / 'deep', count=3, ending='jpg')
    (tmp_path / 'deep' / 'folder.jpg').mkdir()
    for pattern in ('**', '**/*', '**/*.jpg'):
        assert len(open_set(tmp_path, pattern)) == 3
    assert len(open_set(tmp_path / 'deep')) == 3


def test_grey_is_read_from_colour(tmp_path):
    write_pictures(tmp_path, count=4)
    images, labels = next(open_set(tmp_path, grayscale=True).batches(4, 1))
    assert images.shape == (4, 8, 8, 1) and labels is None and np.ptp(images) > 9


# Classes


@pytest.fixture
def classes(tmp_path):
    """Grey pictures in class folders; the level tells the class."""
    for label, name in enumerate(['ant', 'bee', 'cat']):
        os.makedirs(tmp_path / name)
        for i in range(4 + label):
            pixels = np.zeros((8, 8, 3), np.uint8)
            pixels[label] = 255
            Image.fromarray(pixels).save(tmp_path / name / f'{i}.png')
    return tmp_path


@pytest.mark.parametrize('pattern', [None, '*.png', '*/*.png', '**/*.png'])
def test_labels_are_those_of_the_class_folders(pattern, classes):
    dataset = open_set(classes, pattern, by_class=True)
    images, labels = next(dataset.batches(15, 1))
    assert (images[:, :, 0, 0].argmax(1) == labels).all()
    assert np.bincount(labels).tolist() == [4, 5, 6] and dataset.classes == 3
    assert dataset.contents == '15 pictures: 4 ant, 5 bee, 6 cat'


def test_each_class_may_have_its_own_type_of_pictures(classes):
    for path in (classes / 'bee').iterdir():
        Image.open(path).save(path.with_suffix('.jpg'))
        path.unlink()
    assert len(open_set(classes, by_class=True)) == 15


def test_a_replaced_picture_brings_its_own_label(classes):
    for i in range(120):  # so that one of them is less than 1%
        Image.new('RGB', (8, 8)).save(classes / 'ant' / f'x{i}.png')
    (classes / 'cat' / '3.png').write_bytes(b'')
    dataset = open_set(classes, by_class=True)
    images, labels = next(dataset.batches(len(dataset), 1))
    drawn = images[:, :, 0, 0].any(1)
    assert (images[drawn, :, 0, 0].argmax(1) == labels[drawn]).all()
    assert np.bincount(labels).sum() == 135 and len(dataset.unreadable) == 1


def test_a_class_without_pictures_is_told(classes):
    (classes / 'dog').mkdir()
    with pytest.raises(UserError, match='a class has no pictures: .*, 0 dog'):
        open_set(classes, by_class=True)


def test_a_picture_outside_the_classes_is_told(classes):
    Image.new('RGB', (8, 8)).save(classes / 'stray.png')
    with pytest.raises(UserError, match=r'stray\.png is in no class folder'):
        open_set(classes, '**/*.png', by_class=True)


def test_a_folder_without_classes_is_told(tmp_path):
    write_pictures(tmp_path)
    with pytest.raises(UserError, match='no class folders, which --conditional needs'):
        open_set(tmp_path, by_class=True)


# CelebA's lists


@pytest.fixture(params=['beside', 'above'])
def celeba(request, tmp_path):
    """Three aligned PNG pictures, and the lists, which name JPEG, in either place."""
    folder = tmp_path / 'data' / 'celebA'
    write_pictures(folder, count=3)
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
def test_a_partition_is_that_of_the_list(partition, celeba):
    assert names(open_set(celeba, partition=partition)) == [SAMPLE_NAME[partition]]


def test_all_needs_no_list(tmp_path):
    write_pictures(tmp_path, count=3)
    assert len(open_set(tmp_path, partition='all')) == 3


def test_a_box_is_cropped_to_as_far_as_it_is_in_the_picture(celeba):
    for name in ('000', '001'):
        picture = Image.open(celeba / f'{name}.png')
        box = (2, 3, 12, 15) if name == '000' else (0, 0, 10, 10)
        picture.crop(box).save(celeba / f'{name}.webp', lossless=True)
    boxed = open_set(celeba, '*.png', bbox=True)
    cropped = open_set(celeba, '*.webp')
    for i in range(2):
        assert (boxed._decode([i])[0] == cropped._decode([i])[0]).all()


def test_a_picture_without_a_box_cannot_be_used(celeba):
    with pytest.raises(UserError, match=r'002\.png'):
        all_batches(open_set(celeba, bbox=True), size=3)


@pytest.mark.parametrize('reading', [{'bbox': True}, {'partition': 'val'}])
def test_a_missing_list_is_named(reading, tmp_path):
    write_pictures(tmp_path)
    message = r'list_\w+\.txt is neither there .*"download.py celebA" fetches it'
    with pytest.raises(UserError, match=message):
        open_set(tmp_path, **reading)


@pytest.mark.parametrize(
    ('content', 'message'),
    [
        (b'<html>\xff', 'not a list of CelebA'),
        (b'', 'cut short, 0 rows are there of 1'),
        (b'2\nimage_id x y w h\n000.jpg 1 2 3 4\n', 'cut short, 1 rows are there of 2'),
        (b'000.jpg 1 2 3 4\n001.jpg 1 2', "not a list of CelebA: '001.jpg 1 2'"),
        (b'000.jpg 1 2 3 x\n', "not a list of CelebA: '000.jpg 1 2 3 x'"),
    ],
)
def test_a_list_that_is_none_is_named(content, message, celeba):
    (celeba / 'list_bbox_celeba.txt').write_bytes(content)
    with pytest.raises(UserError, match=rf'list_bbox_celeba\.txt: {message}'):
        open_set(celeba, bbox=True)


def test_a_list_may_be_parted_by_commas(celeba):
    list_ = celeba / 'list_eval_partition.txt'
    list_.write_text('image_id,partition\n000.jpg,2\n001.jpg,2\n002.jpg,1\n')
    assert len(open_set(celeba, partition='test')) == 2


def test_pictures_that_a_list_does_not_have_are_counted(celeba, capsys):
    (celeba / 'list_eval_partition.txt').write_text('000.jpg 2\n')
    assert len(open_set(celeba, partition='test')) == 1
    assert '2 pictures are not in the list of partitions' in capsys.readouterr().out


def test_an_empty_partition_is_told(celeba):
    (celeba / '001.png').unlink()
    with pytest.raises(UserError, match='none of its pictures is in partition val'):
        open_set(celeba, partition='val')


# Pictures that cannot be decoded


@pytest.fixture
def torn(tmp_path):
    """A folder of 200 pictures, of which two cannot be decoded."""
    write_pictures(tmp_path, count=200, size=(9, 9))
    tear(tmp_path / '003.png')
    (tmp_path / '100.png').unlink()
    (tmp_path / '100.png').symlink_to('nowhere')
    return tmp_path


def test_what_cannot_be_decoded_is_named_once_and_replaced(torn, capsys):
    images = all_batches(open_set(torn), size=20, epochs=3)
    said = capsys.readouterr().out.splitlines()
    assert len(images) == 600 and images.reshape(600, -1).any(1).all()
    assert len(said) == 3 and '*.png are used' in said[0]
    assert {line.split(': ')[0] for line in said[1:]} == {
        ' [!] Left out, 1 so far',
        ' [!] Left out, 2 so far',
    }
    assert sum('003.png' in line for line in said) == 1


@pytest.mark.parametrize('reading', [{'num_workers': 2}, {'cache': True}])
def test_the_replacement_is_the_same_however_it_is_read(reading, torn):
    in_line = all_batches(open_set(torn), size=20)
    assert (all_batches(open_set(torn, **reading), size=20) == in_line).all()


@pytest.mark.parametrize('reading', [{}, {'num_workers': 2}, {'cache': True}])
def test_more_than_one_percent_ends_it_with_the_list(reading, torn):
    (torn / '050.png').write_bytes(b'')
    message = '3 of 200 .* above 1%; .*003.png, .*050.png, .*100.png'
    with pytest.raises(UserError, match=message):
        all_batches(open_set(torn, **reading))
    assert not list(torn.glob('.cache/*-*'))


def test_any_name_of_a_torn_picture_can_be_said(torn, capfdbinary):
    os.rename(torn / '003.png', os.fsencode(torn) + b'/\n\xff.png')
    all_batches(open_set(torn), size=50)
    said = capfdbinary.readouterr().out.decode('ascii').splitlines()
    assert len(said) == 3 and any('\\udcff.png' in line for line in said)


def test_a_set_of_which_nothing_decodes_ends_it(tmp_path):
    for i in range(8):
        (tmp_path / f'{i}.jpg').write_text('<html>')
    with pytest.raises(UserError, match='1 of 8 pictures cannot be used'):
        next(open_set(tmp_path).batches(4, 1))


@pytest.mark.filterwarnings('ignore::PIL.Image.DecompressionBombWarning')
def test_a_bomb_counts_as_one(torn, monkeypatch, capsys):
    monkeypatch.setattr(Image, 'MAX_IMAGE_PIXELS', 100)  # for a small bomb
    Image.new('RGB', (11, 10)).save(torn / '003.png')
    all_batches(open_set(torn), size=50)
    assert '003.png: larger than 100 pixels' in capsys.readouterr().out


def test_a_bomb_of_pillow_s_own_limit_is_refused(tmp_path):
    Image.new('1', (20000, 20000)).save(tmp_path / 'bomb.png')  # 50 kB
    with pytest.raises(UserError, match=r'bomb\.png: .*(exceeds limit|larger than)'):
        utils.imread(str(tmp_path / 'bomb.png'))


# Workers


@pytest.mark.parametrize('workers', [1, 2, 3])
def test_any_number_of_workers_gives_the_same_batches(workers, tmp_path):
    write_pictures(tmp_path, count=21)
    in_line = all_batches(open_set(tmp_path))
    assert (all_batches(open_set(tmp_path, num_workers=workers)) == in_line).all()


def test_reading_ahead_draws_no_random_numbers(tmp_path):
    write_pictures(tmp_path, count=20)
    dataset = open_set(tmp_path, num_workers=2)
    before = np.random.get_state()[2]
    list(dataset.batches(4, 5))
    assert np.random.get_state()[2] == before


def test_workers_are_ahead_by_two_batches_each(tmp_path):
    write_pictures(tmp_path, count=20)
    dataset, taken = open_set(tmp_path, num_workers=3), []

    def chunks():
        for i in range(20):
            taken.append(i)
            yield dataset._jobs([i])

    decoded = dataset.workers.map(chunks())
    assert taken == []
    for i in range(10):
        next(decoded)
        assert len(taken) == i + 7


def test_an_epoch_that_is_left_does_not_mix_with_the_next(tmp_path):
    write_pictures(tmp_path, count=20)
    dataset = open_set(tmp_path, num_workers=2)
    next(dataset.batches(4, 5))
    assert (next(dataset.batches(4, 5))[0] == dataset.take(dataset.order[:4])[0]).all()


def test_a_worker_that_dies_is_told(tmp_path):
    write_pictures(tmp_path, count=20)
    dataset = open_set(tmp_path, num_workers=2)
    batches = dataset.batches(4, 5)
    next(batches)
    for process in dataset.workers.processes:
        process.kill()
    with pytest.raises(UserError, match=r'ended \(-9\).*lower --num_workers'):
        list(batches)


def test_workers_end_with_the_process_that_started_them(tmp_path):
    write_pictures(tmp_path, count=20)
    script = (
        'import os, signal\nfrom dcgan.datasets import open_dataset\n'
        f'dataset = open_dataset({str(tmp_path)!r}, None, (8, 8), (8, 8), 0, 0,'
        ' num_workers=2)\n'
        'batches = dataset.batches(4, 5)\n'
        'next(batches)\n'
        'print([p.pid for p in dataset.workers.processes], flush=True)\n'
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
    """Whether a condition comes true within some seconds."""
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


def test_a_cache_gives_the_same_batches_and_is_built_once(tmp_path, capsys):
    write_pictures(tmp_path, count=21)
    without = all_batches(open_set(tmp_path))
    for built in (True, False):
        assert (all_batches(open_set(tmp_path, cache=True)) == without).all()
        assert ('cache: 100%' in capsys.readouterr().err) == built
    (path,) = cache_files(tmp_path)
    assert 21 * 8 * 8 * 3 <= path.stat().st_size < 21 * 8 * 8 * 3 + 10


def change_a_picture(folder):
    os.utime(folder / '000.png', ns=(0, 1))
    return {}


def add_a_picture(folder):
    Image.new('RGB', (8, 8)).save(folder / 'new.png')
    return {}


@pytest.mark.parametrize('change', [change_a_picture, add_a_picture])
def test_a_cache_of_other_files_is_replaced(change, tmp_path):
    write_pictures(tmp_path)
    open_set(tmp_path, cache=True)
    before = cache_files(tmp_path)
    change(tmp_path)
    dataset = open_set(tmp_path, cache=True)
    assert len(cache_files(tmp_path)) == 1 and cache_files(tmp_path) != before
    assert (all_batches(dataset) == all_batches(open_set(tmp_path))).all()


@pytest.mark.parametrize('change', [{'size': (9, 8)}, {'grayscale': True}])
def test_other_settings_have_a_cache_of_their_own(change, tmp_path):
    write_pictures(tmp_path)
    open_set(tmp_path, cache=True)
    cached = all_batches(open_set(tmp_path, cache=True, **change))
    assert len(cache_files(tmp_path)) == 2
    assert (cached == all_batches(open_set(tmp_path, **change))).all()


@pytest.mark.parametrize('size', [0, 100, -1])
def test_a_damaged_cache_is_rebuilt(size, tmp_path):
    write_pictures(tmp_path)
    open_set(tmp_path, cache=True)
    (path,) = cache_files(tmp_path)
    path.write_bytes(path.read_bytes()[:size])
    cached = all_batches(open_set(tmp_path, cache=True))
    assert (cached == all_batches(open_set(tmp_path))).all()


def test_a_cache_that_is_there_needs_no_writing(tmp_path):
    write_pictures(tmp_path)
    open_set(tmp_path, cache=True)
    (tmp_path / '.cache' / 'lock').unlink()
    (tmp_path / '.cache' / 'lock').mkdir()  # so that it could not be opened
    assert len(open_set(tmp_path, cache=True)) == 10


def test_what_a_cache_could_not_read_is_tried_again(torn):
    whole, path = (torn / '004.png').read_bytes(), torn / '003.png'
    path.write_bytes(bytes(len(whole)))
    times = path.stat().st_atime_ns, path.stat().st_mtime_ns
    open_set(torn, cache=True)
    path.write_bytes(whole)
    os.utime(path, ns=times)  # the cache stays as it is
    cached = all_batches(open_set(torn, cache=True), size=20)
    assert (cached == all_batches(open_set(torn), size=20)).all()


def children():
    """The processes that this one has started and that still run."""
    tasks = Path('/proc/self/task').glob('*/children')
    pids = {int(pid) for task in tasks for pid in task.read_text().split()}
    return {pid for pid in pids if is_running(pid)}


def test_processes_that_built_a_cache_end(tmp_path, monkeypatch):
    write_pictures(tmp_path)
    before, during = children(), []
    monkeypatch.setattr(os, 'fsync', lambda _: during.append(children()))
    dataset = open_set(tmp_path, cache=True, num_workers=2)
    assert len(during[0] - before) == 2 and children() == before and len(dataset) == 10


def test_processes_end_with_their_data_set_and_start_again_when_needed(tmp_path):
    write_pictures(tmp_path, count=20)
    before, dataset = children(), open_set(tmp_path, num_workers=2)
    for _ in range(2):
        batches = dataset.batches(4, 5)
        next(batches)
        assert len(children() - before) == 2
        dataset.close()
        assert children() == before
    assert len(list(dataset.batches(4, 5))) == 5
    del batches, dataset
    assert wait_until(lambda: children() == before)


@pytest.mark.parametrize('reading', [{}, {'num_workers': 1}])
def test_a_disk_that_fails_is_not_taken_for_a_bad_image(reading, tmp_path):
    write_pictures(tmp_path, count=200)
    (tmp_path / '003.png').unlink()
    (tmp_path / '003.png').symlink_to('/proc/self/mem')  # reading it is an I/O error
    with pytest.raises(OSError, match=r'Input/output error: .*003\.png'):
        all_batches(open_set(tmp_path, **reading))


BUILD = """
import sys
from dcgan.datasets import open_dataset
folder, size = sys.argv[1], (64, 64)
open_dataset(folder, None, size, (8, 8), 0, 0, cache=True)
"""


def test_an_interrupted_cache_is_built_by_the_next_run(tmp_path):
    write_pictures(tmp_path, count=300, size=(200, 200))
    command = [sys.executable, '-c', BUILD, str(tmp_path)]
    process = subprocess.Popen(command, cwd=ROOT)
    while not list(tmp_path.glob('.cache/.*-*')):
        time.sleep(0.005)
    process.kill()
    process.wait()
    assert not cache_files(tmp_path)
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    assert list(tmp_path.glob('.cache/*-*')) == cache_files(tmp_path) != []


def test_two_runs_at_once_build_one_cache(tmp_path):
    write_pictures(tmp_path, count=300, size=(200, 200))
    command = [sys.executable, '-c', BUILD, str(tmp_path)]
    options = dict(cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    both = [subprocess.Popen(command, **options) for _ in range(2)]
    said = [process.communicate() for process in both]
    assert [process.returncode for process in both] == [0, 0]
    assert sum('cache: 100%' in err for _, err in said) == 1
    cached = open_set(tmp_path, size=(64, 64), cache=True)
    without = open_set(tmp_path, size=(64, 64))
    assert (next(cached.batches(50, 1))[0] == next(without.batches(50, 1))[0]).all()


def test_a_cache_that_cannot_be_written_is_told(tmp_path):
    write_pictures(tmp_path)
    (tmp_path / '.cache').write_text('a file')
    with pytest.raises(UserError, match=r'\.cache: cannot be used .*; leave out --cac'):
        open_set(tmp_path, cache=True)
