"""Prepare what samples are compared with: real images, networks, statistics."""

import json
import os
import time
from collections.abc import Iterator

import numpy as np

from dcgan.data.dataset import INCEPTION
from dcgan.data.labels import class_names_in
from dcgan.evaluation.inception import GraphExtractor
from dcgan.evaluation.random_network import RandomNetwork
from dcgan.evaluation.real_images import RealImages, gaussian_shapes
from dcgan.sampling.samples import draw_batches
from dcgan.util.errors import UserError, printable
from dcgan.util.files import FREE_SPACE, write_errors
from dcgan.util.npz import read_arrays, write_arrays
from dcgan.util.output import print_path
from dcgan.util.progress import progress_bar
from dcgan.util.z import gen_random


class References:
    """What samples of a model.DCGAN are compared with, and the file of measures.

    real: RealImages of its data set; None if --statistics takes their place, `given`.
    extractors: what gives features: a network from a file, the classifier, the random
    network. seeds: of --evaluate_repeats evaluations, from --seed on. UserError for
    files that cannot be used, or another set of classes.
    """

    def __init__(self, dcgan, config):
        self.dcgan, self.config, self.started = dcgan, config, time.perf_counter()
        first = config.seed or 0
        self.seeds = range(first, first + config.evaluate_repeats)
        self.path = os.path.join(dcgan.out_dir, 'evaluations.jsonl')
        path = config.features or os.path.join(config.data_dir, INCEPTION)
        has_network = config.features or os.path.exists(path)
        self.extractors = [GraphExtractor(path)] if has_network else []
        self.real = self.classifier = self.given = None
        if config.statistics:
            self.given = self._read_statistics(config.statistics)
            return
        folder = os.path.join(config.data_dir, config.dataset)
        names = class_names_in(dcgan.out_dir) if dcgan.y_dim else []
        if names and names != dcgan.data.class_names:
            problem = 'its classes differ from the classes of the run'
            raise UserError(f'{folder}: {problem}: {printable(", ".join(names))}')
        own_cache = os.path.join(dcgan.out_dir, 'evaluation')
        self.real = real = RealImages(dcgan.data, folder, own_cache)
        self.classifier = real.classifier(config.dataset) if real.data.classes else None
        others = self.classifier, RandomNetwork(real.shape)
        self.extractors += filter(None, others)

    def _read_statistics(self, path):
        """mu [d] and sigma [d, d] in a file like those of TTUR and pytorch-fid."""
        by = self._network()
        shapes = gaussian_shapes(by, self.dcgan.sampler.shape.as_list()[1:])
        (d,) = shapes['mu']
        problem = f'not an .npz file of mu [{d}] and sigma [{d}, {d}], as {by.name} has'
        how = problem, 'give statistics of this network, or its --features'
        found = read_arrays(path, shapes, *how)
        if len(found) < 2:
            raise UserError(f'{path}: {problem}; {how[1]}')
        return found

    def write_statistics(self, path: str) -> None:
        """Write mu and sigma of the real images, by a network from a file."""
        found = self.real.statistics(self._network())
        with write_errors(path, advice=FREE_SPACE):
            write_arrays(path, {name: found[name] for name in ('mu', 'sigma')})
        print_path(path)

    def _network(self):
        """The network from a file, which statistics are of."""
        network = next(iter(self.extractors), None)
        if not isinstance(network, GraphExtractor):
            problem = 'statistics are of the features of a network in a file'
            advice = 'run "download.py inception", or give --features FILE'
            raise UserError(f'{problem}; {advice}')
        return network

    def samples(self, count: int, seed: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Yield `count` samples, uint8, and labels, -1 without classes, in batches."""
        labels = self.labels(count)
        # of its own, because a training draws from NumPy's global state in a thread
        rng, drawn = np.random.RandomState(seed % 2**32), 0
        z = gen_random(self.config.z_dist, (count, self.dcgan.z_dim), rng)
        batches = self.dcgan.sess, self.dcgan, z.astype(np.float32), labels, True
        with progress_bar('samples', count, ' images', delay=2) as bar:
            for images in draw_batches(*batches):
                yield images, labels[drawn : drawn + len(images)]
                drawn += len(images)
                bar.update(len(images))

    def labels(self, count: int) -> np.ndarray:
        """Classes of `count` samples, mixed: as often as in the data, or all as often.

        They are -1 without classes.
        """
        classes = np.array([-1])
        if self.dcgan.y_dim and self.real:
            classes = self.real.data.labels[self.real.indices]
        elif self.dcgan.y_dim:  # in turn, no pair of neighbours would have one class
            classes = np.random.RandomState(0).permutation(count) % self.dcgan.y_dim
        return np.resize(classes, count).astype(np.int64)

    def close(self) -> None:
        """End the processes that decode images, if there are any."""
        if self.real:
            self.real.data.close()

    def record(self, measure, value, extractor=None, **more) -> None:
        """Append a measure to evaluations.jsonl of the run."""
        row = {
            'measure': measure,
            'value': value,
            **more,
            'extractor': extractor and extractor.name,
            'sha256': extractor and extractor.digest,
            'real': self.real and len(self.real.indices),
            'averages': bool(self.dcgan.averages),
            'seconds': round(time.perf_counter() - self.started, 1),
        }
        # a+ does not wait for a pipe, as a would
        with write_errors(self.path, advice=FREE_SPACE), open(self.path, 'a+') as file:
            file.write(f'{json.dumps(row)}\n')
