"""Measure how well a classifier recognizes the digits that MNIST runs draw.

    python tests/score_mnist.py out/RUN [out/RUN ...] [--data_dir data]

Trains a small convolutional classifier on MNIST's 60,000 training images. Then each run
draws 1,000 samples of every class, and two figures are printed for it:

- the share of samples that the classifier recognizes as the class asked for;
- the Frechet distance (https://arxiv.org/abs/1706.08500) between the samples and the
  10,000 test images, in the 128 features of the classifier.

Takes two minutes on 2 cores.
"""

import argparse
import os
import sys

os.environ.setdefault('TF_CPP_MIN_LOG_LEVEL', '3')
sys.path.insert(0, os.path.join(os.path.dirname(__file__), '..'))

import numpy as np
import tensorflow.compat.v1 as tf

from dcgan.idx import idx_pairs, read_idx
from dcgan.samples import draw
from model import DCGAN, flatten
from ops import conv2d, linear, lrelu, relu


def classifier(x):
    """Images [B, 28, 28, 1] in [0, 1] -> features [B, 128], logits [B, 10]."""
    with tf.variable_scope('classifier'):
        h = lrelu(conv2d(x, 32, stddev=0.1, name='h0'))
        h = lrelu(conv2d(h, 64, stddev=0.05, name='h1'))
        features = relu(linear(flatten(h), 128, 'h2'))
        return features, linear(features, 10, 'h3')


def train_classifier(sess, images, labels, epochs=3, batch_size=100):
    """Train the classifier on images [n, 28, 28, 1] in [0, 1] and labels [n].

    Returns a function from such images to their features [n, 128] and logits [n, 10].
    """
    x, y = tf.placeholder(tf.float32, [None, 28, 28, 1]), tf.placeholder(tf.int64)
    features, logits = classifier(x)
    loss = tf.losses.sparse_softmax_cross_entropy(y, logits)
    update = tf.train.AdamOptimizer(1e-3).minimize(loss)
    sess.run(tf.global_variables_initializer())
    for _ in range(epochs):
        order = np.random.permutation(len(images))
        for indices in order.reshape(-1, batch_size):
            sess.run(update, {x: images[indices], y: labels[indices]})

    def classify(images):
        batches = np.split(images, 10)
        results = [sess.run([features, logits], {x: batch}) for batch in batches]
        return [np.concatenate(arrays) for arrays in zip(*results)]

    return classify


def draw_digits(run_dir):
    """Draw 10,000 samples of a run, the ten classes in turn; returns images, labels."""
    labels = np.arange(1000) % 10
    with tf.Graph().as_default(), tf.Session() as sess:
        dcgan = DCGAN(
            sess,
            batch_size=1000,
            output_height=28,
            output_width=28,
            y_dim=10,
            c_dim=1,
            data_dir=None,
        )
        dcgan.load(os.path.join(run_dir, 'checkpoint'))
        images = [
            draw(sess, dcgan, np.random.uniform(-1, 1, (1000, 100)), labels)
            for _ in range(10)
        ]
    return np.concatenate(images), np.tile(labels, 10)


def frechet_distance(a: np.ndarray, b: np.ndarray) -> float:
    """Frechet distance of the Gaussians fitted to two sets of features [n, d].

    |mean_a - mean_b|^2 + trace(cov_a + cov_b - 2 sqrt(cov_a cov_b)). The trace of the
    matrix root is the sum of the square roots of the eigenvalues.
    """
    (mean_a, cov_a), (mean_b, cov_b) = ((f.mean(0), np.cov(f.T)) for f in (a, b))
    roots = np.sqrt(np.linalg.eigvals(cov_a @ cov_b).real.clip(0))
    return ((mean_a - mean_b) ** 2).sum() + np.trace(cov_a + cov_b) - 2 * roots.sum()


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('runs', nargs='+', help='run folders, trained on MNIST')
    parser.add_argument('--data_dir', default='./data', help='folder that holds mnist/')
    args = parser.parse_args()
    (train_images, train_labels), (test_images, test_labels) = (
        [read_idx(path) for path in pair]
        for pair in idx_pairs(os.path.join(args.data_dir, 'mnist')).values()
    )
    tf.disable_eager_execution()
    np.random.seed(0)
    tf.set_random_seed(0)
    with tf.Session() as sess:
        classify = train_classifier(sess, train_images[..., None] / 255.0, train_labels)
        real_features, logits = classify(test_images[..., None] / 255.0)
        accuracy = (logits.argmax(1) == test_labels).mean()
        print(f'test images: {accuracy:.1%} recognized')
        for run_dir in args.runs:
            images, labels = draw_digits(run_dir)
            features, logits = classify(images)
            accuracy = (logits.argmax(1) == labels).mean()
            distance = frechet_distance(real_features, features)
            print(
                f'{run_dir}: {accuracy:.1%} recognized, '
                f'Frechet distance {distance:.1f}',
                flush=True,
            )


if __name__ == '__main__':
    main()
