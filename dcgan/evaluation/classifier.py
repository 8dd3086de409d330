"""Train a small classifier of a labelled data set, to evaluate models of this set."""

import hashlib
from functools import partial

import numpy as np
import tensorflow.compat.v1 as tf

from dcgan.util.npz import read_cached, write_arrays
from dcgan.util.progress import progress_bar

FEATURES = 128  # units of its last hidden layer
FILTERS = (32, 64, 128, 128, 128, 128)  # of its convolutions
ENOUGH = 7  # no more convolutions when the height or width is at most this
STEPS, BATCH = 1800, 100  # of its training
MAX_EPOCHS = 25  # of its training, if these are fewer steps


class Classifier:
    """A network that classifies images, and an extractor, see inception.py.

    accuracy: the share of the held-out images that it recognizes.
    """

    name = 'classifier'

    def __init__(self, shape: tuple[int, int, int], classes: int):
        """shape: (height, width, channels) of the images."""
        self.classes, self.accuracy = classes, 0.0
        graph = tf.Graph()
        self._sess = tf.Session(graph=graph)
        with graph.as_default():
            tf.set_random_seed(0)
            self._images = tf.placeholder(tf.uint8, [None, *shape])
            self._labels = tf.placeholder(tf.int64, [None])
            self._rate = tf.placeholder(tf.float32, [])
            self._features, self._logits = self._network()
            loss = tf.losses.sparse_softmax_cross_entropy(self._labels, self._logits)
            self._variables = {v.op.name: v for v in tf.trainable_variables()}
            self._update = tf.train.AdamOptimizer(self._rate).minimize(loss)
            self._sess.run(tf.global_variables_initializer())

    def _network(self):
        weights = partial(tf.get_variable, initializer=tf.initializers.he_normal())
        x = tf.cast(self._images, tf.float32) / 255.0
        for number, filters in enumerate(FILTERS):
            w = weights(f'conv{number}', [5, 5, x.shape[3], filters])
            bias = tf.get_variable(f'bias{number}', [filters])
            x = tf.nn.leaky_relu(tf.nn.conv2d(x, w, 2, 'SAME') + bias)
            if min(x.shape[1:3]) <= ENOUGH:
                break
        x = tf.reshape(x, [-1, x.shape[1] * x.shape[2] * x.shape[3]])
        w = weights('hidden', [x.shape[1], FEATURES])
        features = tf.nn.relu(x @ w + tf.get_variable('hidden_bias', [FEATURES]))
        w = weights('logits', [FEATURES, self.classes])
        return features, features @ w + tf.get_variable('logits_bias', [self.classes])

    @property
    def digest(self) -> str:
        """The SHA-256 of its weights."""
        values = sorted(self._sess.run(self._variables).items())
        return hashlib.sha256(b''.join(v.tobytes() for _, v in values)).hexdigest()

    def train(self, images: np.ndarray, labels: np.ndarray) -> None:
        """Train on images, uint8 [n, h, w, c], and their labels [n]."""
        rng, queue = np.random.RandomState(0), np.empty(0, np.int64)
        size = min(BATCH, len(images))
        steps = min(STEPS, MAX_EPOCHS * len(images) // size)
        with progress_bar('classifier', steps, ' batches') as bar:
            for step in range(steps):
                if len(queue) < size:
                    queue = rng.permutation(len(images))
                batch, queue = queue[:size], queue[size:]
                feed = {self._images: images[batch], self._labels: labels[batch]}
                feed[self._rate] = 1e-3 if step < 0.7 * steps else 2e-4
                self._sess.run(self._update, feed)
                bar.update()

    def features(self, images: np.ndarray) -> np.ndarray:
        """Features, float32 [n, 128], of images, uint8 [n, h, w, c]."""
        chunks = np.split(images, range(250, len(images), 250))
        features = [self._sess.run(self._features, {self._images: c}) for c in chunks]
        return np.concatenate(features)

    def predict(self, features: np.ndarray) -> np.ndarray:
        """The labels [n] that these features tell."""
        return self._sess.run(self._logits, {self._features: features}).argmax(axis=1)

    def save(self, path: str) -> None:
        """Write the weights and the accuracy to an .npz file."""
        values = self._sess.run(self._variables)
        write_arrays(path, {'accuracy': self.accuracy, **values})

    def load(self, path: str) -> bool:
        """Read a file of save(); returns whether it exists and is complete."""
        shapes = {n: v.shape.as_list() for n, v in self._variables.items()}
        values = read_cached(path, {**shapes, 'accuracy': []})
        if values:
            self.accuracy = float(values.pop('accuracy'))
            for name, value in values.items():
                self._variables[name].load(value, self._sess)
        return bool(values)
