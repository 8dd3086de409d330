"""Change images at random before D sees them, real and generated ones alike.

Zhao et al., 2020, https://arxiv.org/abs/2006.10738. D cannot memorize few images then,
and G does not learn the changes, because they are differentiable and made to both.
"""

from collections.abc import Callable

import tensorflow.compat.v1 as tf

from dcgan.util.errors import UserError

KINDS = ('color', 'translation', 'cutout')


def check_kinds(kinds: str) -> None:
    """Raise UserError unless `kinds` is made of KINDS and commas, or empty."""
    if kinds and not {*kinds.split(',')} <= {*KINDS}:
        raise UserError(f'--augment {kinds}: give some of {",".join(KINDS)}')


def augment(
    images: tf.Tensor, kinds: str, numbers: Callable, is_unit=False
) -> tf.Tensor:
    """Images [B, h, w, c] in [-1, 1] (is_unit: in [0, 1]), each changed in other ways.

    color        brightness by up to 0.5, saturation times 0 to 2, contrast times 0.5 to
                 1.5, as uniform numbers
    translation  by up to an eighth of height and of width; beyond the edge is gray, 0
    cutout       a rectangle of half the height and width is gray

    numbers(shape) returns uniform numbers in [0, 1), float32.
    """
    if not kinds:
        return images
    x = 2 * images - 1 if is_unit else images
    _, height, width, _ = x.shape
    uniform = tf.unstack(numbers([tf.shape(x)[0], 7]), axis=1)
    if 'color' in kinds:
        brightness, saturation, contrast = (n[:, None, None, None] for n in uniform[:3])
        x += brightness - 0.5
        gray = tf.reduce_mean(x, 3, keepdims=True)
        x = gray + 2 * saturation * (x - gray)
        mean = tf.reduce_mean(x, [1, 2, 3], keepdims=True)
        x = mean + (contrast + 0.5) * (x - mean)
    if 'translation' in kinds:
        down, right = map(_shift_matrix, uniform[3:5], (height, width))
        x = tf.einsum('bij,bjwc->biwc', down, x)
        x = tf.einsum('bkw,biwc->bikc', right, x)
    if 'cutout' in kinds:
        rows, columns = map(_half, uniform[5:], (height, width))
        is_cut = rows[:, :, None, None] & columns[:, None, :, None]
        x = tf.where_v2(is_cut, 0.0, x)
    return (x + 1) / 2 if is_unit else x


def _shift_matrix(uniform, size):
    """[B, size, size]: moves a height or width by up to an eighth, for numbers [B]."""
    most = int(size / 8 + 0.5)
    shifts = tf.cast(uniform * (2 * most + 1), tf.int32) - most
    return tf.one_hot(tf.range(size) + shifts[:, None], size)


def _half(uniform, size):
    """[B, size], whether a pixel is in the half of a height or width that is cut."""
    cut = int(size / 2 + 0.5)
    centers = tf.cast(uniform * (size + 1 - cut % 2), tf.int32)
    pixels = tf.range(size) - centers[:, None] + cut // 2
    return (pixels >= 0) & (pixels < cut)
