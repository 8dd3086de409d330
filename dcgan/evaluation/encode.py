"""Encode images by the layers of the discriminator (paper, section 5)."""

import contextlib
from collections.abc import Callable

import numpy as np
import tensorflow.compat.v1 as tf

from dcgan.compute.forward_pass import SAMPLING
from dcgan.data.dataset import read_images
from dcgan.training.inputs import to_inputs
from dcgan.training.user_model import original_style
from dcgan.util.errors import UserError
from dcgan.util.npz import npz_file
from dcgan.util.output import print_path

CELLS = 4  # rows and columns to which a layer is pooled


def build_encoder(sess, dcgan) -> tuple[Callable, int]:
    """The discriminator of a model.DCGAN as a function, and the number d of features.

    It takes images, uint8 [n, h, w, c], to features [n, d] and logits [n], float32, by
    the moving averages of batch norm. A conditional D gets labels that are all zero.
    """
    if 'discriminator' in original_style(dcgan):
        raise UserError(
            f'--encode: {type(dcgan).__name__} overrides discriminator, whose layers '
            'are unknown; leave out --encode'
        )
    pixels, layers = tf.placeholder(tf.uint8, [None, *dcgan.inputs.shape[1:]]), []
    labels = tf.zeros(tf.shape(pixels)[:1], tf.int64)
    inputs = to_inputs(dcgan, pixels, labels, None)
    y = tf.zeros_like(inputs.y) if dcgan.y_dim else None
    how = SAMPLING._replace(probe=layers.append)
    _, logits = dcgan.discriminator(inputs.images, y, reuse=True, how=how)
    features = tf.concat([pooled(layer) for layer in layers], 1)
    encoder = sess.make_callable([features, logits[:, 0]], [pixels])
    return encoder, int(features.shape[1])


def pooled(layer: tf.Tensor) -> tf.Tensor:
    """Maxima of a layer [B, h, w, c] in 4x4 cells, flat; a layer [B, n] as it is."""
    if layer.shape.ndims == 2:
        return layer
    _, height, width, channels = layer.shape.as_list()
    rows = [tf.reduce_max(layer[:, s], 1, keepdims=True) for s in cells(height)]
    layer = tf.concat(rows, 1)
    columns = [tf.reduce_max(layer[:, :, s], 2, keepdims=True) for s in cells(width)]
    return tf.reshape(tf.concat(columns, 2), [-1, len(rows) * len(columns) * channels])


def cells(size: int) -> list[slice]:
    """CELLS slices of a height or width, or `size` if it is less; they may overlap."""
    count = min(CELLS, size)
    return [slice(i * size // count, -(-(i + 1) * size // count)) for i in range(count)]


def encode(sess, dcgan, path: str, limit: float = np.inf) -> None:
    """Write D's features of a data set's images to an .npz file; print its path.

    The images are all, or `limit` of them, in a fixed random order. The arrays are
    features (float32 [n, d], of the hidden layers of D, one after the other), labels
    ([n], -1 if there are none), logits (float32 [n]) and indices ([n], of the images in
    the data set). Raises UserError if the file cannot be written.
    """
    data, (encoder, size) = dcgan.data, build_encoder(sess, dcgan)
    indices = np.random.RandomState(0).permutation(len(data))
    indices = indices[: int(min(len(data), limit))]
    count, rows = len(indices), []
    with contextlib.closing(data), npz_file(path) as add_array:
        with add_array('features', (count, size), np.float32) as write:
            for images, labels in read_images(data, indices, 'features'):
                features, logits = encoder(images)
                write(features)
                labels = np.full(len(images), -1) if labels is None else labels
                rows.append((labels, logits))
        labels, logits = map(np.concatenate, zip(*rows))
        for name, array, dtype in (
            ('labels', labels, np.int64),
            ('logits', logits, np.float32),
            ('indices', indices, np.int64),
        ):
            with add_array(name, (count,), dtype) as write:
                write(array)
    print_path(path)
