"""--augment changes real and generated images before D, as DiffAugment does."""

import numpy as np
import pytest
import tensorflow.compat.v1 as tf
from test_options import iterate

from dcgan.training.augment import KINDS, augment, check_kinds
from dcgan.training.regularization import RandomNumbers
from dcgan.util.errors import UserError

ALL = ','.join(KINDS)
SHAPE = 5, 20, 12, 3
RNG = np.random.RandomState(0)
IMAGES = RNG.uniform(-1, 1, SHAPE).astype(np.float32)
NUMBERS = RNG.rand(5, 7).astype(np.float32)


def changed(sess, kinds, images=IMAGES, numbers=NUMBERS, **options):
    return sess.run(augment(tf.constant(images), kinds, lambda _: numbers, **options))


def test_color_changes_brightness_saturation_and_contrast(sess):
    found = changed(sess, 'color')
    for image, result, (brightness, saturation, contrast, *_) in zip(
        IMAGES, found, NUMBERS
    ):
        expected = image + brightness - 0.5
        gray = expected.mean(axis=2, keepdims=True)
        expected = gray + (expected - gray) * saturation * 2
        mean = expected.mean()
        expected = mean + (expected - mean) * (contrast + 0.5)
        assert result == pytest.approx(expected, abs=1e-5)


def test_translation_moves_images_and_leaves_gray_behind(sess):
    numbers = NUMBERS.copy()
    numbers[:, 3:5] = [[0, 0], [0.999, 0.999], [0.5, 0.5], [0, 0.5], [0.5, 0.999]]
    moved = [(-3, -2), (3, 2), (0, 0), (-3, 0), (0, 2)]  # an eighth, rounded
    found = changed(sess, 'translation', numbers=numbers)
    for image, result, (down, right) in zip(IMAGES, found, moved):
        padded = np.pad(image, [(3, 3), (2, 2), (0, 0)])
        assert (result == padded[3 + down :, 2 + right :][:20, :12]).all()


def test_cutout_grays_a_rectangle_of_half_the_size(sess):
    numbers = np.full((5, 7), 0.5, np.float32)
    numbers[0, 5:] = 0
    numbers[1, 5:] = 0.999
    is_gray = (changed(sess, 'cutout', numbers=numbers) == 0).all(axis=3)
    assert is_gray.sum(axis=(1, 2)).tolist() == [5 * 3, 5 * 3, *[10 * 6] * 3]
    assert is_gray[0, :5, :3].all() and is_gray[1, 15:, 9:].all()
    assert is_gray[2, 5:15, 3:9].all()


def test_images_from_0_to_1_are_changed_in_the_same_way(sess):
    found = changed(sess, ALL, (IMAGES + 1) / 2, is_unit=True)
    assert found == pytest.approx((changed(sess, ALL) + 1) / 2, abs=1e-6)


@pytest.mark.parametrize('kinds', KINDS)
def test_gradients_are_those_of_finite_differences(kinds, sess):
    x, weights = tf.placeholder(tf.float32, SHAPE), RNG.rand(*SHAPE)
    weighted = augment(x, kinds, lambda _: NUMBERS) * np.float32(weights)
    value, gradient = tf.reduce_sum(weighted), tf.gradients(weighted, x)[0]
    step = RNG.uniform(-1, 1, SHAPE).astype(np.float32)
    above, below = (sess.run(value, {x: IMAGES + s * step}) for s in (0.5, -0.5))
    along = np.sum(sess.run(gradient, {x: IMAGES}) * step)
    assert along == pytest.approx(above - below, rel=1e-3)


def test_random_numbers_are_those_of_the_seed_and_new_in_each_call(sess):
    numbers = RandomNumbers(tf.constant([1, 2]))
    first, second = (augment(tf.constant(IMAGES), ALL, numbers) for _ in range(2))
    again = augment(tf.constant(IMAGES), ALL, RandomNumbers(tf.constant([1, 2])))
    first, second, again = sess.run([first, second, again])
    assert (first == again).all() and (first != second).any()


def test_d_sees_changed_images_in_updates_and_plain_ones_in_reported_losses(make_dcgan):
    found = []
    for kinds in '', ALL:
        with tf.Graph().as_default(), tf.Session() as sess:
            tf.set_random_seed(1)
            found.append(iterate(make_dcgan(sess), (0, 0), augment=kinds)[0])
    plain, changed = found
    assert np.allclose(plain.losses, changed.losses, rtol=1e-6)
    assert not np.isclose(plain.step_losses, changed.step_losses, rtol=1e-6).any()


def test_unknown_change_is_an_error():
    with pytest.raises(UserError, match='--augment colour: give some of color,trans'):
        check_kinds('colour')
