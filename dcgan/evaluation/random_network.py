"""Give features of images by a network of random weights: no labels, no download."""

import hashlib

import numpy as np
import tensorflow.compat.v1 as tf

FILTERS = (32, 64, 128)  # of its convolutions, all 5x5 with stride 2
SIZE = 64  # pixels, to which larger images are reduced


class RandomNetwork:
    """An extractor, see inception.py: three convolutions of fixed random weights.

    NumPy draws the weights, normal with variance 2/inputs, from seed 0: they are the
    same everywhere. Images are in [-1, 1], gray ones as 3 channels, layers are leaky
    ReLUs, and the features are the mean activations of all filters: 224.
    """

    name = 'random network'

    def __init__(self, shape: tuple[int, int, int]):
        """shape: (height, width, channels) of the images."""
        rng, digest, means = np.random.RandomState(0), hashlib.sha256(), []
        self._sess = tf.Session(graph=tf.Graph())
        with self._sess.graph.as_default():
            self._images = tf.placeholder(tf.uint8, [None, *shape])
            x = tf.cast(self._images, tf.float32) / 127.5 - 1
            x = tf.image.resize_area(x, [min(SIZE, size) for size in shape[:2]])
            x = x if shape[2] == 3 else tf.tile(x, [1, 1, 1, 3])
            for filters in FILTERS:
                inputs = 25 * x.shape[3]
                w = rng.normal(0, (2 / inputs) ** 0.5, (inputs, filters))
                w = w.astype(np.float32).reshape(5, 5, -1, filters)
                digest.update(w)
                x = tf.nn.leaky_relu(tf.nn.conv2d(x, w, 2, 'SAME'))
                means.append(tf.reduce_mean(x, [1, 2]))
            self._features = tf.concat(means, 1)
        self.digest = digest.hexdigest()

    def features(self, images: np.ndarray) -> np.ndarray:
        """Features, float32 [n, 224], of images, uint8 [n, h, w, c]."""
        return self._sess.run(self._features, {self._images: images})
