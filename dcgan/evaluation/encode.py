"""Encode images by the layers of the discriminator (paper, section 5)."""

import contextlib
from collections.abc import Callable

import numpy as np
import tensorflow.compat.v1 as tf

from dcgan.data.dataset import read_images
from dcgan.training.inputs import to_inputs
from dcgan.training.user_model import discriminate
from dcgan.util.npz import npz_file
from dcgan.util.output import print_path

CELLS = 4  # rows and columns to which a layer is pooled


def build_encoder(sess, dcgan) -> tuple[Callable, int]:
    """D as a function of images, uint8 [n, h, w, c], and the number d of features.

    It returns features [n, d] and logits [n], float32, by batch norm's moving averages.
    A conditional D gets labels that are all zero.
    """
    pixels = tf.placeholder(tf.uint8, [None, *dcgan.inputs.shape[1:]])
    labels = tf.fill(tf.shape(pixels)[:1], -1)  # one-hot, these are all zero
    layers, logits = discriminate(dcgan, *to_inputs(dcgan, pixels, labels), '--encode')
    features = tf.concat([pooled(layer) for layer in layers], 1)
    encoder = sess.make_callable([features, logits], [pixels])
    return encoder, int(features.shape[1])


def pooled(layer: tf.Tensor) -> tf.Tensor:
    """Maxima of a layer [B, h, w, c] in 4x4 cells, flat; a layer [B, n] as it is."""
    if layer.shape.ndims == 2:
        return layer
    for _ in ('rows', 'columns'):
        maxima = [tf.reduce_max(layer[:, s], 1) for s in cells(layer.shape[1])]
        layer = tf.stack(maxima, 2)
    return tf.reshape(layer, [-1, np.prod(layer.shape[1:])])


def cells(size: int) -> list[slice]:
    """CELLS slices of a height or width, or `size` if it is less; they may overlap."""
    count = min(CELLS, size)
    return [slice(i * size // count, -(-(i + 1) * size // count)) for i in range(count)]


def encode(sess, dcgan, path: str, limit: float = np.inf) -> None:
    """Write D's features of a data set's images to an .npz file; print its path.

    The images are all, or `limit` of them, in a fixed random order. The arrays are
    features (float32 [n, d], of D's hidden layers), labels ([n], or -1), logits
    (float32 [n]) and indices ([n], of the images). UserError if it cannot be written.
    """
    data, (encoder, size) = dcgan.data, build_encoder(sess, dcgan)
    count, rows = int(min(len(data), limit)), []
    indices = np.random.RandomState(0).permutation(len(data))[:count]
    with contextlib.closing(data), npz_file(path) as add_array:
        with add_array('features', (count, size), np.float32) as write:
            for images, labels in read_images(data, indices, 'features'):
                features, logits = encoder(images)
                write(features)
                labels = np.full(len(images), -1) if labels is None else labels
                rows.append((labels, logits))
        types = {'labels': np.int64, 'logits': np.float32, 'indices': np.int64}
        arrays = *map(np.concatenate, zip(*rows)), indices
        for (name, dtype), array in zip(types.items(), arrays):
            with add_array(name, (count,), dtype) as write:
                write(array)
    print_path(path)
