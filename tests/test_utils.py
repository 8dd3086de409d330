"""The helpers of the original in utils.py: names, arguments and results."""

import inspect
import itertools
import time

import numpy as np
import pytest
import tensorflow.compat.v1 as tf
from conftest import ROOT
from PIL import Image

import utils
from dcgan.data.images import load_image

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
        assert len(parameters) == len(names.split()), name


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


def test_images_of_any_range_are_saved_with_stretched_contrast(tmp_path):
    images = np.random.RandomState(0).uniform(0, 1, (4, 5, 6, 3))
    utils.imsave(images, (2, 2), str(tmp_path / 'a.png'))
    utils.save_images(images * 2 - 1, (2, 2), str(tmp_path / 'b.png'))
    a, b = (np.asarray(Image.open(tmp_path / f'{n}.png')).astype(int) for n in 'ab')
    assert a.shape == (10, 12, 3) and a.max() == 255 and abs(a - b).max() <= 1


@pytest.mark.parametrize(
    ('true_image', 'low', 'high'), [(True, 0, 255), (False, -1, 1)]
)
def test_make_gif_takes_images_in_both_ranges(true_image, low, high, tmp_path):
    frames = np.stack([np.full((8, 8, 3), low), np.full((8, 8, 3), high)])
    path = str(tmp_path / 'a.gif')
    utils.make_gif(frames.astype(float), path, duration=1, true_image=true_image)
    with Image.open(path) as gif:
        levels = []
        for frame in range(2):
            gif.seek(frame)
            levels.append(np.asarray(gif.convert('L')).max())
    assert levels == [0, 255]


def test_timestamp_has_the_given_format():
    assert utils.timestamp('%Y', 86400 * 365) in ('1970', '1971')
    assert utils.timestamp() >= time.strftime('%Y%m%d')


def test_merge_images_rescales_to_the_range_0_to_1():
    assert utils.merge_images(np.array([-1.0, 1.0]), None).tolist() == [0, 1]


def test_show_all_variables_prints_sizes(sess, capsys):
    tf.get_variable('w', [5, 5, 3, 8])
    tf.get_variable('b', [8])
    utils.show_all_variables()
    printed = capsys.readouterr().out
    assert 'w:0 (float32 5x5x3x8) [600, bytes: 2400]\n' in printed
    assert printed.endswith(
        'Total size of variables: 608\nTotal bytes of variables: 2432\n'
    )


def test_get_stddev_depends_on_the_number_of_inputs():
    assert utils.get_stddev(tf.zeros([1, 2, 2, 4]), 2, 2) == 0.25
