"""Turn bytes and class numbers into what the networks see; mirror images."""

import numpy as np
import tensorflow.compat.v1 as tf


def byte_values(y_dim: int | None) -> np.ndarray:
    """What networks see of each byte, float32 [256]: -1 to 1, or conditional 0 to 1."""
    offset, scale = (0.0, 255.0) if y_dim else (127.5, 127.5)
    return (np.arange(256, dtype=np.float32) - offset) / scale


def to_inputs(dcgan, images: tf.Tensor, labels: tf.Tensor) -> tuple:
    """float32 images and y, or None, of uint8 images and labels, as by DCGAN.feed."""
    # by a table, because XLA would round a division by 127.5 in another way
    images = tf.gather(byte_values(dcgan.y_dim), tf.cast(images, tf.int32))
    return images, tf.one_hot(labels, dcgan.y_dim) if dcgan.y_dim else None


def flip(images: np.ndarray, batch: int, part: slice) -> np.ndarray:
    """Mirror about half of the images [b, h, w, c], by NumPy's global random state.

    They are `part` of a batch of `batch` images, for all of which numbers are drawn.
    """
    is_flipped = (np.random.random_sample(batch) < 0.5)[part]
    return np.where(is_flipped[:, None, None, None], images[:, :, ::-1], images)
