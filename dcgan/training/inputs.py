"""Turn bytes, class numbers and z into what the networks see; mirror images."""

from typing import NamedTuple

import numpy as np
import tensorflow.compat.v1 as tf


class Inputs(NamedTuple):
    """What the networks see: tensors of type float32."""

    images: tf.Tensor  # [B, h, w, c]
    y: tf.Tensor | None  # [B, y_dim], one-hot
    z: tf.Tensor | None  # [B, z_dim]


def byte_values(y_dim: int | None) -> np.ndarray:
    """What networks see of each byte, float32 [256]: -1 to 1, or conditional 0 to 1."""
    offset, scale = (0.0, 255.0) if y_dim else (127.5, 127.5)
    return (np.arange(256, dtype=np.float32) - offset) / scale


def to_inputs(dcgan, images: tf.Tensor, labels: tf.Tensor, z: tf.Tensor) -> Inputs:
    """Inputs of uint8 images, integer labels and z: the values of DCGAN.feed."""
    # by a table, because XLA would round a division by 127.5 in another way
    images = tf.gather(byte_values(dcgan.y_dim), tf.cast(images, tf.int32))
    y = tf.one_hot(labels, dcgan.y_dim) if dcgan.y_dim else None
    return Inputs(images, y, z)


def flip(images: np.ndarray, batch: int, part: slice) -> np.ndarray:
    """Mirror about half of the images [b, h, w, c], by NumPy's global random state.

    They are `part` of a batch of `batch` images, for all of which numbers are drawn.
    """
    is_flipped = (np.random.random_sample(batch) < 0.5)[part]
    return np.where(is_flipped[:, None, None, None], images[:, :, ::-1], images)
