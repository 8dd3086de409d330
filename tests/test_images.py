"""Reading and writing images and files, and the helpers of the original."""

import inspect
import io
import itertools
import os
import pathlib
import socket
import subprocess
import sys
import time

import numpy as np
import pytest
import tensorflow.compat.v1 as tf
from conftest import ROOT, run_code, write_images
from PIL import EpsImagePlugin, Image, ImageSequence

import utils
from dcgan.data.images import FORMATS, center_slice, load_image, open_image, parse_color
from dcgan.util.errors import UserError
from dcgan.util.files import atomic_path, remove_leftovers

pytestmark = pytest.mark.smoke
IMAGES = ROOT / 'tests' / 'golden' / 'images'
# {name of a helper: its arguments in the original}
SIGNATURES = {
    'get_image': 'image_path input_height input_width resize_height resize_width crop '
    'grayscale',
    'save_images': 'images size path',
    'imread': 'path grayscale',
    'imsave': 'images size path',
    'merge': 'images size',
    'merge_images': 'images size',
    'center_crop': 'x crop_h crop_w resize_h resize_w',
    'transform': 'image input_height input_width resize_height resize_width crop',
    'inverse_transform': 'images',
    'image_manifold_size': 'num_images',
    'make_gif': 'images fname duration true_image',
    'visualize': 'sess dcgan config option sample_dir',
    'show_all_variables': '',
    'gen_random': 'mode size',
    'timestamp': 's ts',
    'expand_path': 'path',
    'get_stddev': 'x k_h k_w',
}


def test_helpers_take_as_many_arguments_as_in_the_original():
    for name, names in SIGNATURES.items():
        # the names of the arguments may differ: callers pass them by position
        parameters = inspect.signature(getattr(utils, name)).parameters
        assert len([*parameters.keys() - {'rng'}]) == len(names.split()), name


def save(path, array, **options):
    Image.fromarray(np.asarray(array, np.uint8)).save(path, **options)
    return str(path)


def test_helpers_take_the_arguments_that_they_had_until_2017(tmp_path):
    write_images(tmp_path, count=1)
    path, get_image = f'{tmp_path}/000.png', utils.get_image
    image, gray = utils.imread(path), utils.imread(path, grayscale=True)
    assert (utils.imread(path, is_grayscale=True) == gray).all()
    crop, whole = get_image(path, 18, None, 8, 8), get_image(path, 18, 18, 8, 8, False)
    for older in [
        get_image(path, 18, True, 8),
        get_image(path, 18, is_crop=True, resize_w=8, is_grayscale=False),
        get_image(path, image_size=18, resize_w=8),
        get_image(path, 18, 18, 8, 8, is_crop=True),
        utils.transform(image, 18, np.bool_(True), 8),
        utils.transform(image, npx=18, is_crop=True, resize_w=8),
    ]:
        assert (older == crop).all()
    assert (get_image(path, 18, 18, 8, 8, is_crop=False) == whole).all()
    # in 2016, an image that was not cropped was not resized
    for older in [
        get_image(path, 18, False),
        get_image(path, 18, is_crop=False),
        utils.transform(image, 18, False, 8),
    ]:
        assert (older == image / 127.5 - 1).all()
    expected = get_image(path, 18, None, 8, 8, True, True)
    assert (get_image(path, 18, True, 8, True) == expected).all()


def test_crop_larger_than_the_image_keeps_the_whole_image(tmp_path):
    path = save(tmp_path / 'a.png', np.arange(60).reshape(5, 4, 3))
    whole = utils.get_image(path, 5, 4, 8, 8, crop=False)
    assert (utils.get_image(path, 108, 108, 8, 8, crop=True) == whole).all()
    high = utils.get_image(path, 5, 2, 8, 8)
    assert (utils.get_image(path, 108, 2, 8, 8) == high).all()


def test_data_sets_read_the_pixels_of_get_image():
    names = ['color.png', 'gray.png', 'rgba.png', 'face.jpg']
    for name, *flags in itertools.product(names, [True, False], [True, False]):
        args = [str(IMAGES / name), 20, 30, 16, 12, *flags]
        pixels = load_image(*args) / 127.5 - 1.0
        assert (pixels == utils.get_image(*args)).all(), (name, flags)


def test_crop_of_an_array_is_resized():
    x = np.zeros((10, 8, 3))
    x[3:7, 2:6] = 255
    # the contrast of a crop is stretched, which makes a crop of one color black
    assert (utils.center_crop(x, 4, 4, 6, 5) == 0).all()
    assert utils.center_crop(x, 6, None, 6, 5).shape == (6, 5, 3)
    assert utils.transform(x, 99, 99, 10, 8).max() == 1


def test_contrast_of_the_crop_is_stretched_before_resizing(tmp_path):
    pixels = np.full((10, 10, 3), 50)
    pixels[0] = 255  # outside the crop
    pixels[5, 5] = 60
    image = utils.get_image(save(tmp_path / 'a.png', pixels), 4, 4, 4, 4)
    assert image.min() == -1 and image.max() == 1


def test_color_images_are_rotated_as_exif_says(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # orientation: rotate by 90 degrees
    path = save(tmp_path / 'a.jpg', np.zeros((4, 6, 3)), exif=exif)
    assert utils.imread(path).shape == (6, 4, 3)


# values of gray files by their type, and what they are read as
SPANS = [
    (np.uint16, [0, 16, 4095], [0, 1, 255], '16 or 32 bits'),
    (np.uint16, [0, 4, 1023], [0, 1, 255], '16 or 32 bits'),
    (np.uint16, [0, 100, 255], [0, 100, 255], '16 or 32 bits'),
    (np.uint16, [0, 4, 256], [0, 1, 64], '16 or 32 bits'),
    (np.uint16, [0, 256, 65535], [0, 1, 255], ''),
    (np.int32, [0, 100, 255], [0, 100, 255], '16 or 32 bits'),
    (np.int32, [0, 256, 65535], [0, 1, 255], ''),
    (np.int32, [-100, 0, 155], [0, 100, 255], 'of other ranges'),
    (np.int32, [0, 100000, 255000], [0, 100, 255], 'of other ranges'),
    (np.float32, [0, 0.2, 1], [0, 51, 255], 'floats from 0 to 1'),
    (np.float32, [0, 100, 255], [0, 100, 255], ''),
    (np.float32, [-1, 0, 1], [0, 128, 255], 'of other ranges'),
    (np.float32, [3, 3, 3], [3, 3, 3], ''),
    (np.int32, [0, 0, 0], [0, 0, 0], ''),
    (np.float32, [0, 0.51, 1.02], [0, 128, 255], 'of other ranges'),
    (np.float32, [0, 2.5, 5], [0, 128, 255], 'of other ranges'),
]


@pytest.mark.parametrize('dtype, values, expected, note', SPANS)
def test_gray_is_read_by_what_its_values_span(dtype, values, expected, note, tmp_path):
    path, notes = str(tmp_path / ('a.png' if dtype == np.uint16 else 'a.tif')), set()
    Image.fromarray(np.array([values], dtype)).save(path)
    image = open_image(path, notes=notes)
    assert image.mode == 'RGB'
    assert np.asarray(image)[0, :, 0].tolist() == expected
    assert len(notes) == bool(note) and note in ''.join(notes)


def test_16_bits_of_pgm_are_cut_to_8(tmp_path):
    levels = np.array([[0, 256, 65535]], '>u2')
    (tmp_path / 'a.pgm').write_bytes(b'P5 3 1 65535\n' + levels.tobytes())
    assert utils.imread(str(tmp_path / 'a.pgm'))[0, :, 0].tolist() == [0, 1, 255]


@pytest.mark.parametrize('format', [*FORMATS, 'MPO'])
def test_the_documented_formats_are_read_whatever_their_names(format, tmp_path):
    image = Image.new('RGB', (9, 8), (200, 100, 50))
    image.save(tmp_path / 'a.x', format)
    loaded = utils.imread(str(tmp_path / 'a.x'))
    assert loaded.shape == (8, 9, 3) and abs(loaded - (200, 100, 50)).max() < 9
    assert open_image(io.BytesIO((tmp_path / 'a.x').read_bytes())).size == (9, 8)


@pytest.mark.parametrize('format', ['EPS', 'ICO', 'TGA', 'PCX', 'SGI', 'ICNS'])
def test_other_formats_are_not_read_and_start_no_program(format, tmp_path, monkeypatch):
    (tmp_path / 'gs').write_text(f'#!/bin/sh\ntouch {tmp_path}/started\n')
    (tmp_path / 'gs').chmod(0o755)
    monkeypatch.setenv('PATH', str(tmp_path), prepend=os.pathsep)
    monkeypatch.setattr(EpsImagePlugin, 'gs_binary', None)  # Pillow looks for it again
    Image.new('RGB', (16, 16)).save(tmp_path / 'cat.jpg', format)
    with pytest.raises(UserError, match=r'cat\.jpg: not a readable image'):
        utils.imread(str(tmp_path / 'cat.jpg'))
    with pytest.raises(UserError, match='not a readable image'):
        open_image(io.BytesIO((tmp_path / 'cat.jpg').read_bytes()))
    assert not (tmp_path / 'started').exists()


@pytest.mark.parametrize(
    'kind', ['pipe', 'device', 'socket', 'folder', 'link to a pipe']
)
def test_what_is_no_regular_file_is_not_opened(kind, tmp_path):
    path, other = tmp_path / 'a.jpg', tmp_path / 'other'
    with socket.socket(socket.AF_UNIX) as server:
        {
            'pipe': lambda: os.mkfifo(path),
            'device': lambda: path.symlink_to('/dev/zero'),
            'socket': lambda: server.bind(str(path)),
            'folder': path.mkdir,
            'link to a pipe': lambda: (os.mkfifo(other), path.symlink_to(other)),
        }[kind]()
        with pytest.raises(UserError, match=r'a\.jpg: .*\(it is no regular file\)'):
            utils.imread(str(path))


@pytest.mark.filterwarnings('ignore::PIL.Image.DecompressionBombWarning')
def test_the_number_of_pixels_has_a_limit_that_can_be_lifted(tmp_path, monkeypatch):
    limit, large = Image.MAX_IMAGE_PIXELS, str(tmp_path / 'a.png')
    for size in (10001, 10000), (20001, 10000):
        Image.new('1', size).save(large)
        with pytest.raises(UserError, match=r'a\.png: larger than 100,000,000 pixels'):
            load_image(large, 9, 9, 8, 8)
    lifted = load_image(large, 9, 9, 8, 8, max_pixels=300_000_000)
    assert lifted.shape == (8, 8, 3) and limit == Image.MAX_IMAGE_PIXELS
    small = str(tmp_path / 'b.png')
    Image.new('1', (11, 10)).save(small)
    with pytest.raises(UserError, match='larger than 109 pixels; .* --max_pixels'):
        open_image(small, max_pixels=109)
    assert open_image(small, max_pixels=110).size == (11, 10)
    monkeypatch.setattr(Image, 'MAX_IMAGE_PIXELS', 109)  # as a user of Pillow sets it
    with pytest.raises(UserError, match='larger than 109 pixels'):
        utils.imread(small)
    monkeypatch.setattr(Image, 'MAX_IMAGE_PIXELS', None)
    assert utils.imread(small).shape == (10, 11, 3)


@pytest.mark.parametrize('header', ['P6 99999999 1 255', 'P2 99999999 1 65535'])
def test_a_lack_of_memory_is_not_what_a_wide_image_is(header, tmp_path):
    (tmp_path / 'a.ppm').write_text(f'{header}\n1 1 1')
    with pytest.raises(UserError, match=r'a\.ppm: .*\(it is 99,999,999 pixels wide\)'):
        load_image(str(tmp_path / 'a.ppm'), 8)


def test_file_that_is_not_a_usable_image_is_reported_by_name(tmp_path):
    (tmp_path / 'a.jpg').write_text('<html>')
    with pytest.raises(UserError, match=r'a\.jpg: not a readable image'):
        utils.get_image(str(tmp_path / 'a.jpg'), 8)
    Image.fromarray(np.array([[0, np.nan]], np.float32)).save(tmp_path / 'a.tif')
    with pytest.raises(UserError, match=r'a\.tif: .*values that are not finite'):
        utils.imread(str(tmp_path / 'a.tif'))


@pytest.mark.parametrize('mode', ['RGBA', 'P', 'RGB'])
def test_background_lies_under_transparent_pixels(mode, tmp_path):
    path, notes, options = str(tmp_path / 'a.png'), set(), {}
    # a red pixel, and a green one that is not seen at all
    pixels = np.array([[[255, 0, 0, 255], [0, 255, 0, 0]]], np.uint8)
    image = Image.fromarray(pixels)
    if mode == 'P':
        image = image.convert('RGB').quantize(2)
        options = {'transparency': image.getpixel((1, 0))}
    elif mode == 'RGB':
        image, options = image.convert('RGB'), {'transparency': (0, 255, 0)}
    image.save(path, **options)
    assert np.asarray(open_image(path))[0].tolist() == [[255, 0, 0], [0, 255, 0]]
    image = open_image(path, background=parse_color('#0000ff'), notes=notes)
    assert np.asarray(image)[0].tolist() == [[255, 0, 0], [0, 0, 255]] and not notes
    gray = open_image(path, grayscale=True, background=(255, 255, 255))
    assert gray.mode == 'F' and np.asarray(gray)[0, 1] == 255
    open_image(path, notes=notes)
    assert '--background white' in ''.join(notes)


def test_alpha_is_mixed_and_noted_only_below_1(tmp_path):
    Image.new('RGBA', (2, 2), (0, 0, 0, 51)).save(tmp_path / 'a.png')
    image = open_image(str(tmp_path / 'a.png'), background=(255, 255, 255))
    assert np.asarray(image)[0, 0].tolist() == [204, 204, 204]
    Image.new('RGBA', (2, 2), (1, 2, 3, 255)).save(tmp_path / 'a.png')
    notes = set()
    open_image(str(tmp_path / 'a.png'), notes=notes)
    assert not notes


@pytest.mark.parametrize('count', [1, 2, 3, 5, 7, 8, 12, 64])
def test_any_number_of_images_fits_in_a_grid(count, tmp_path):
    images = np.random.RandomState(0).uniform(-1, 1, (count, 4, 5, 3))
    path = tmp_path / 'grid.png'
    utils.save_images(images, utils.image_manifold_size(count), str(path))
    grid = np.asarray(Image.open(path))
    assert grid.min() == 0 and grid.max() == 255
    cells = (grid.shape[0] // 4) * (grid.shape[1] // 5)
    assert grid.shape[:2] == (grid.shape[0] // 4 * 4, grid.shape[1] // 5 * 5)
    assert count <= cells < count + grid.shape[1] // 5


def test_file_is_replaced_completely_or_not_at_all(tmp_path):
    path = tmp_path / 'grid.png'
    path.write_text('before')
    with pytest.raises(KeyboardInterrupt), atomic_path(str(path)) as temporary:
        with open(temporary, 'w') as file:
            file.write('first half')
        raise KeyboardInterrupt
    assert path.read_text() == 'before' and list(tmp_path.iterdir()) == [path]


def test_only_temporary_files_of_ended_processes_are_removed(tmp_path):
    command = [sys.executable, '-c', 'import os; print(os.getpid())']
    ended = int(subprocess.run(command, capture_output=True, text=True).stdout)
    host, day = socket.gethostname(), 24 * 60 * 60
    kept = {
        '.2024.txt': 9 * day,
        '.dcgan-notes.txt': 9 * day,
        f'.dcgan-{os.getpid()}@{host}~a.png': 0,
        f'.dcgan-{ended}@elsewhere~a.png': 0,
    }
    removed = {
        f'.dcgan-{ended}@{host}~a.png': 0,
        f'.dcgan-{ended}@elsewhere~b.png': 2 * day,
        f'.dcgan-{ended}@{host}~folder/a.png': 0,
    }
    for name, age in (kept | removed).items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
        os.utime(tmp_path / name, (time.time() - age,) * 2)
    remove_leftovers(str(tmp_path))
    assert {path.name for path in tmp_path.iterdir()} == set(kept)


def test_images_of_any_range_are_saved_with_stretched_contrast(tmp_path):
    images = np.random.RandomState(0).uniform(0, 1, (4, 5, 6, 3))
    utils.imsave(images, (2, 2), str(tmp_path / 'a.png'))
    utils.save_images(images * 2 - 1, (2, 2), str(tmp_path / 'b.png'))
    a, b = (np.asarray(Image.open(tmp_path / f'{n}.png')).astype(int) for n in 'ab')
    assert a.shape == (10, 12, 3) and a.max() == 255 and abs(a - b).max() <= 1


@pytest.mark.parametrize('channels, is_in_bytes', [(1, True), (3, True), (3, False)])
def test_animation_has_one_frame_for_each_image(channels, is_in_bytes, tmp_path):
    levels = np.array([0, 255, 0, 255, 0, 255])
    frames = np.ones((6, 8, 9, channels)) * levels[:, None, None, None]
    frames = frames if is_in_bytes else frames / 127.5 - 1
    utils.make_gif(frames, str(tmp_path / 'a.gif'), true_image=is_in_bytes)
    with Image.open(tmp_path / 'a.gif') as gif:
        assert gif.n_frames == 6 and gif.size == (9, 8)
        assert gif.info['duration'] == 330 and gif.info['loop'] == 0
        shown = [frame.convert('L') for frame in ImageSequence.Iterator(gif)]
    assert [np.asarray(frame).max() for frame in shown] == levels.tolist()


def test_z_is_drawn_from_the_requested_distribution():
    np.random.seed(0)
    for mode, low in (('uniform_signed', -1), ('uniform_unsigned', 0)):
        z = utils.gen_random(mode, (100, 50))
        assert low <= z.min() < low + 0.01 and 0.99 < z.max() <= 1
    normal = utils.gen_random('normal01', (100, 50))
    assert abs(normal.mean()) < 0.05 and abs(normal.std() - 1) < 0.05
    own = utils.gen_random('normal01', (100, 50), np.random.RandomState(7))
    np.random.seed(7)
    assert (utils.gen_random('normal01', (100, 50)) == own).all()
    message = 'normal01, uniform_signed, uniform_unsigned'
    with pytest.raises(UserError, match=message):
        utils.gen_random('uniform', (2, 2))


def write_folder(path, content):
    with atomic_path(str(path)) as temporary:
        os.mkdir(temporary)
        pathlib.Path(temporary, content).touch()
        if content == 'fails':
            raise InterruptedError


def test_folder_is_replaced_whole_and_its_only_copy_is_kept(tmp_path):
    write_folder(tmp_path / 'a', 'old')
    (tmp_path / 'a').rename(tmp_path / 'a.before')  # killed between two renames
    with pytest.raises(InterruptedError):
        write_folder(tmp_path / 'a', 'fails')
    assert os.listdir(tmp_path) == ['a.before']
    assert os.listdir(tmp_path / 'a.before') == ['old']
    write_folder(tmp_path / 'a', 'new')
    (tmp_path / 'a.before').mkdir()  # killed before it was removed
    write_folder(tmp_path / 'a', 'newer')
    assert os.listdir(tmp_path) == ['a'] and os.listdir(tmp_path / 'a') == ['newer']


def test_import_leaves_warnings_alone_and_cores_follow_the_affinity(tmp_path):
    code = """
import os, warnings, PIL.Image, numpy
before = warnings.filters[:]
import utils
assert warnings.filters == before, warnings.filters
os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
from dcgan.util.cores import usable_cores
print(usable_cores())
"""
    result = run_code(code, cwd=tmp_path)
    assert result.stdout == '1\n', result.stderr


def test_halves_of_a_pixel_before_a_crop_are_rounded_to_even():
    crops = center_slice(9, 8), center_slice(11, 8), center_slice(5, 8)
    assert crops == (slice(0, 8), slice(2, 10), slice(0, 5))


def test_the_smallest_helpers_compute_what_those_of_the_original_do():
    assert utils.timestamp('%Y', 86400 * 365) in ('1970', '1971')
    assert utils.timestamp() >= time.strftime('%Y%m%d')
    assert utils.merge_images(np.array([-1.0, 1.0]), None).tolist() == [0, 1]
    assert utils.get_stddev(tf.zeros([1, 2, 2, 4]), 2, 2) == 0.25
    sizes = [utils.image_manifold_size(n) for n in (1, 9, 12, 64, 72)]
    assert sizes == [(1, 1), (3, 3), (3, 4), (8, 8), (8, 9)]


def test_show_all_variables_prints_sizes(sess, capsys):
    tf.get_variable('w', [5, 5, 3, 8])
    tf.get_variable('b', [8])
    utils.show_all_variables()
    printed = capsys.readouterr().out
    assert 'w:0 (float32 5x5x3x8) [600, bytes: 2400]\n' in printed
    assert printed.endswith(
        'Total size of variables: 608\nTotal bytes of variables: 2432\n'
    )
