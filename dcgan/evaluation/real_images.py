"""Read real images for evaluation, and cache their statistics and classifier."""

import os

import numpy as np

from dcgan.data.dataset import read_images
from dcgan.data.image_folder import CACHE_FOLDER
from dcgan.evaluation.classifier import Classifier
from dcgan.evaluation.fid import gaussian
from dcgan.util.errors import UserError
from dcgan.util.files import json_digest, remove_leftovers, require_writable
from dcgan.util.npz import read_cached, write_arrays
from dcgan.util.output import Extra, print_line, print_path

MAX_IMAGES = 50_000  # that samples are compared with, or a classifier is trained on
MIN_IMAGES = 8
MIN_HELD_OUT, MAX_HELD_OUT = 100, 10_000  # images that the classifier is tested on
MAX_VALUES = 2**27  # in the held-out images; 4 times as many in training images


class RealImages:
    """Up to MAX_IMAGES images of a Dataset, by their indices in a fixed random order.

    shape: (height, width, channels). held_out: indices of images to test a classifier,
    if they are enough (can_test). most: images that fit into memory as float32.
    """

    def __init__(self, data, folder: str, own_cache: str):
        """folder: the data set's, which caches them, if writable; else `own_cache`."""
        self.data, count = data, len(data)
        self._digest = data.digest()  # it looks at all files, which takes time
        if count < MIN_IMAGES:
            problem = f'{count} images are too few to compare with'
            raise UserError(f'{folder}: {problem}; it takes {MIN_IMAGES} or more')
        self.shape = data.take(data.order[:1])[0].shape[1:]
        order = np.random.RandomState(0).permutation(count)
        self.indices = order[:MAX_IMAGES]
        self.most = max(1, MAX_VALUES // int(np.prod(self.shape)))
        held_out = min(MAX_HELD_OUT, count // 7, self.most)
        self.held_out, train = order[count - held_out :], order[: count - held_out]
        self.can_test = held_out >= MIN_HELD_OUT
        self._train = train[: min(MAX_IMAGES, 4 * self.most)]
        self._folder = os.path.join(folder, CACHE_FOLDER)
        try:
            require_writable(self._folder, '')
        except UserError:
            self._folder = own_cache
        remove_leftovers(self._folder)

    def classifier(self, name: str) -> Classifier | None:
        """The classifier, cached or newly trained; None if no better than chance."""
        classifier = Classifier(self.shape, self.data.classes)
        path = os.path.join(self._folder, f'classifier-{self._digest}.npz')
        if not classifier.load(path):
            classifier.train(*self.read_all(self._train, 'images of the classifier'))
            images, labels = self.read_all(self.held_out, 'held-out images')
            predicted = classifier.predict(classifier.features(images))
            classifier.accuracy = float((predicted == labels).mean())
            with Extra(path):
                classifier.save(path)
                print_path(path)
        labels = self.data.labels[self.held_out]
        share = np.bincount(labels).max() / len(labels)
        chance = share + 2 * (share * (1 - share) / len(labels)) ** 0.5
        recognized = f'recognizes {classifier.accuracy:.2%} of {len(labels)} images'
        if self.can_test and classifier.accuracy > chance:
            print_line(f' [*] Classifier of {name}: {recognized}, held out')
            return classifier
        why = f'chance would be up to {chance:.2%}, and {MIN_HELD_OUT} are needed'
        print_line(f' [!] Classifier of {name} is left out: {recognized}; {why}')
        return None

    def read_all(self, indices: np.ndarray, name: str) -> list[np.ndarray]:
        """[images, uint8 [n, h, w, c], and labels [n], if there are any]."""
        parts = zip(*read_images(self.data, indices, name, delay=2))
        return [np.concatenate(arrays) for arrays in parts if arrays[0] is not None]

    def statistics(self, extractor) -> dict[str, np.ndarray]:
        """mu, sigma and features [n, d] of all images by an extractor."""
        if found := self.cached_statistics(extractor):
            return found
        batches = read_images(self.data, self.indices, 'real images', 2)
        features = [extractor.features(images) for images, _ in batches]
        return self.save_statistics(extractor, np.concatenate(features))

    def cached_statistics(self, extractor) -> dict[str, np.ndarray] | None:
        """What save_statistics has cached, or None."""
        shapes = gaussian_shapes(extractor, self.shape)
        shapes['features'] = len(self.indices), *shapes['mu']
        return read_cached(self._path(extractor), shapes)

    def save_statistics(self, extractor, features: np.ndarray) -> dict[str, np.ndarray]:
        """Cache and return features [n, d] of all images, their mean and covariance."""
        if (features == features[0]).all():
            problem = 'gives the same features for all images; give another network'
            raise UserError(f'{extractor.name}: {problem}')
        mu, sigma = gaussian(features)  # named as by TTUR (Heusel et al., 2017)
        statistics = {'mu': mu, 'sigma': sigma, 'features': features}
        path = self._path(extractor)
        with Extra(path):
            write_arrays(path, statistics)
            print_path(path)
        return statistics

    def _path(self, extractor):
        digest = json_digest([self._digest, extractor.digest, len(self.indices)])
        return os.path.join(self._folder, f'statistics-{digest}.npz')


def gaussian_shapes(extractor, shape: tuple[int, int, int]) -> dict[str, list[int]]:
    """The shapes of mu and sigma of an extractor's features of images of a shape."""
    d = extractor.features(np.zeros((1, *shape), np.uint8)).shape[1]
    return {'mu': [d], 'sigma': [d, d]}
