"""Evaluate a model: metrics of its samples, and their nearest real images."""

import contextlib
import json
import os
import time

import numpy as np

from dcgan.data.dataset import INCEPTION, read_images
from dcgan.evaluation.fid import frechet_distance, gaussian
from dcgan.evaluation.inception import GraphExtractor
from dcgan.evaluation.kid import kernel_distance
from dcgan.evaluation.nearest import Nearest, save_nearest, share_closer, to_vectors
from dcgan.evaluation.precision_recall import precision_recall
from dcgan.evaluation.real_images import RealImages
from dcgan.runs.run import class_names_in
from dcgan.sampling.samples import draw_batches
from dcgan.util.errors import UserError, escape, printable
from dcgan.util.files import FREE_SPACE, write_errors
from dcgan.util.flags import Flag, Group
from dcgan.util.output import Extra, print_path
from dcgan.util.progress import progress_bar
from dcgan.util.z import gen_random

COMPARED = 10_000  # features for the kernel distance, precision and recall, at most
FITTED_TO = (1_000, 10_000, 100_000)  # images, of nearest-neighbour classifiers
QUERIES = 1_000  # images whose nearest real ones are looked for
SHOWN, BESIDE = 16, 5  # samples in nearest.png, and real images beside each
BIASED = 10_000  # with fewer samples, the bias of the Frechet distance is reported
# names of metrics by Inception in the table
INCEPTION_TITLES = {'frechet_distance': 'FID', 'kernel_distance': 'KID'}


class Evaluation:
    """An evaluation of a model.DCGAN, and the lines of its two tables."""

    def __init__(self, sess, dcgan, config, step: int):
        self.sess, self.dcgan, self.config, self.step = sess, dcgan, config, step
        self.started, self.lines, self.classes = time.perf_counter(), [], []
        self.path = os.path.join(dcgan.out_dir, 'evaluations.jsonl')
        self.seed, self.count = config.seed or 0, config.evaluate_samples
        folder = os.path.join(config.data_dir, config.dataset)
        path = config.features or os.path.join(config.data_dir, INCEPTION)
        self.extractors = [GraphExtractor(path)] if os.path.exists(path) else []
        names = class_names_in(dcgan.out_dir) if dcgan.y_dim else []
        if names and names != dcgan.data.class_names:
            problem = 'its classes differ from the classes of the run'
            raise UserError(f'{folder}: {problem}: {printable(", ".join(names))}')
        if not self.extractors and not dcgan.data.classes:
            problem = 'has no labels, and there is no network for features'
            advice = 'run "download.py inception", or give --features FILE'
            raise UserError(f'{config.dataset} {problem}: {advice}')
        own_cache = os.path.join(dcgan.out_dir, 'evaluation')
        real = self.real_images = RealImages(dcgan.data, folder, own_cache)
        self.classifier = real.classifier(config.dataset) if real.data.classes else None
        self.extractors += filter(None, [self.classifier])
        of_real = dcgan.data.labels[real.indices] if dcgan.y_dim else -1
        self.labels = np.resize(of_real, self.count).astype(np.int64)  # of the samples
        is_tested = dcgan.y_dim and real.can_test
        self.held_out = is_tested and real.read_all(real.held_out, 'held-out images')

    def run(self) -> None:
        """Draw samples, read the real images, and compute all metrics."""
        first = []  # batches of samples, uint8
        drawn = self._draw(first)
        features = self._features(drawn, self.count, 'samples', self.extractors)
        first = np.concatenate(first)[: self.real_images.most]
        pixels, real = self._compare_pixels(first, [f.shape[1] for f in features])
        for extractor, of_samples in zip(self.extractors, features):
            self._compare(extractor, real[extractor], of_samples)
        if self.classifier:
            self._count_classes(self.classifier.predict(features[-1]))
        self._find_copies(first, pixels, real, features)

    def _draw(self, first):
        """Yield samples, uint8, and labels, in batches; put QUERIES into `first`."""
        rng, shape = np.random.RandomState(self.seed), (self.count, self.dcgan.z_dim)
        z, count = gen_random(self.config.z_dist, shape, rng).astype(np.float32), 0
        with progress_bar('samples', self.count, ' images') as bar:
            for images in draw_batches(self.sess, self.dcgan, z, self.labels, True):
                first.append(images[: max(0, QUERIES - count)])
                yield images, self.labels[count : count + len(images)]
                count += len(images)
                bar.update(len(images))

    def _features(self, batches, count, kind, extractors, own=-1, pixels=None):
        """Features of `count` images by each extractor; `pixels` gets the images, too.

        Adds errors of nearest-neighbour classifiers of pixels (paper, section 8.1).
        """
        features, labels, nearest = [[] for _ in extractors], [], None
        if self.held_out:
            nearest = Nearest(to_vectors(self.held_out[0]), own=own)
        for images, of_images in batches:
            labels.append(of_images)
            for extractor, collected in zip(extractors, features):
                collected.append(extractor.features(images))
            if pixels:
                pixels.add(to_vectors(images))
            if not nearest:
                continue
            cuts = [n - nearest.count for n in FITTED_TO]
            for part in np.split(images, [n for n in cuts if 0 < n < len(images)]):
                nearest.add(to_vectors(part))
                if (n := nearest.count) in (*FITTED_TO, count):
                    predicted = np.concatenate(labels)[nearest.indices[:, 0]]
                    error = float((predicted != self.held_out[1]).mean())
                    metric = f'nearest_neighbour_error_{n}_{kind}'
                    title = f'nearest-neighbour error, of {n:,} {kind}'
                    self._add(metric, error, title=title)
        return [np.concatenate(collected) for collected in features]

    def _compare_pixels(self, samples, dims):
        """Read the real images; returns (Nearest in pixels, {extractor: statistics}).

        The queries of Nearest are the samples, followed by as many real images.
        """
        real_images, data = self.real_images, self.dcgan.data
        indices = real_images.indices
        first = read_images(data, indices[: len(samples)], 'first real images', 2)
        real = np.concatenate([images for images, _ in first])
        own = np.concatenate([np.full(len(samples), -1), np.arange(len(real))])
        queries = to_vectors(np.concatenate([samples, real]))
        pixels = Nearest(queries, min(BESIDE, len(indices) - 1), own)
        pairs = zip(self.extractors, dims)
        statistics = {e: real_images.statistics(e, dim) for e, dim in pairs}
        missing = [e for e, found in statistics.items() if not found]
        own = np.arange(len(data))[-len(real_images.held_out) :]
        batches = read_images(data, indices, 'real images', 2)
        features = self._features(batches, len(indices), 'real', missing, own, pixels)
        for extractor, of_real in zip(missing, features):
            statistics[extractor] = real_images.save_statistics(extractor, of_real)
        return pixels, statistics

    def _compare(self, extractor, real, features):
        """Add distances, precision and recall of features."""
        mean, covariance = gaussian(features)
        distance = frechet_distance(real['mu'], real['sigma'], mean, covariance)
        self._add('frechet_distance', distance, extractor)
        compared = [f[:COMPARED] for f in (real['features'], features)]
        value, spread = kernel_distance(*compared, np.random.RandomState(0))
        self._add('kernel_distance', value, extractor, spread=spread)
        center = compared[0].mean(axis=0)  # rounding is least around it
        shares = precision_recall(*(f - center for f in compared))
        for metric, share in zip(('precision', 'recall'), shares):
            self._add(metric, share, extractor, compared=min(map(len, compared)))

    def _count_classes(self, predicted):
        """Add accuracy, coverage and entropy by the classifier."""
        data, by = self.dcgan.data, self.classifier
        counts = np.bincount(predicted, minlength=data.classes)
        names = data.class_names or map(str, range(data.classes))
        self.classes = [f'  {"class":<20} {"samples":>8}']
        self.classes += [f'  {name[:20]:<20} {n:>8}' for name, n in zip(names, counts)]
        if self.dcgan.y_dim:
            is_right = predicted == self.labels
            self._add('accuracy', float(is_right.mean()), by)
            of_class = [is_right[self.labels == n] for n in range(data.classes)]
            shares = [float(each.mean()) if len(each) else None for each in of_class]
            self._add('accuracy_by_class', shares, by)
            column = ['-' if share is None else f'{share:.1%}' for share in shares]
            column = zip(self.classes, ['accuracy', *column])
            self.classes = [f'{line} {cell:>9}' for line, cell in column]
        self._add('coverage', counts.tolist(), by)
        self._add('entropy', entropy(counts), by)

    def _find_copies(self, samples, pixels, statistics, features):
        """Add the shares of samples closer than real images; write nearest.png."""
        count, spaces = len(samples), [('pixels', pixels, None)]
        for by in self.extractors[:1]:
            real, center = statistics[by]['features'], np.float32(statistics[by]['mu'])
            queries = np.concatenate([features[0][:count], real[:count]]) - center
            nearest = Nearest(queries, pixels.indices.shape[1], pixels.own)
            for part in np.split(real, range(1000, len(real), 1000)):
                nearest.add(part - center)
            spaces.append(('features', nearest, by))
        for space, found, by in spaces:
            share = share_closer(*np.split(found.distances[:, 0], [count]))
            title = f'closer than real images, in {space}'
            self._add(f'closer_in_{space}', share, by, title=title)
        path = os.path.join(self.config.sample_dir, 'nearest.png')
        with Extra(path):
            found = np.stack([n.indices[:count][:SHOWN] for _, n, _ in spaces], axis=1)
            indices = self.real_images.indices[found]  # [SHOWN, spaces, BESIDE]
            images, _ = self.dcgan.data.take(indices.reshape(-1))
            images = images.reshape(*indices.shape, *images.shape[1:])
            save_nearest(samples[:SHOWN], images, path)
            print_path(path)

    def _add(self, metric, value, extractor=None, title='', **more):
        """Write a metric and, if it is a number, add it to `lines`."""
        name = extractor and extractor.name
        row = {
            'measure': metric,
            'value': value,
            **more,
            'extractor': name,
            'sha256': extractor and extractor.digest,
            'samples': self.count,
            'real': len(self.real_images.indices),
            'iteration': self.step,
            'averages': bool(self.dcgan.averages),
            'seed': self.seed,
            'seconds': round(time.perf_counter() - self.started, 1),
        }
        # a+ does not wait for a pipe, as a would
        with write_errors(self.path, advice=FREE_SPACE), open(self.path, 'a+') as file:
            file.write(f'{json.dumps(row)}\n')
        if isinstance(value, list):
            return
        title = title or metric.replace('_', ' ').replace('frechet', 'Frechet')
        title += f' ({name})' if name else ''
        if name == 'Inception':
            title = INCEPTION_TITLES.get(metric, title)
        spread = f' +- {more["spread"]:.4g}' if 'spread' in more else ''
        self.lines.append(f'  {title:<52} {value:.4g}{spread}')


def entropy(counts: np.ndarray) -> float:
    """The entropy, in nats, of the distribution that has these counts."""
    shares = counts[counts > 0] / counts.sum()
    return float(-(shares * np.log(shares)).sum()) + 0.0  # never -0


def evaluate(sess, dcgan, config, step: int) -> None:
    """Print all metrics of a model.DCGAN; append them to evaluations.jsonl of its run.

    Raises UserError if no network gives features, or for files that cannot be used.
    """
    with contextlib.closing(dcgan.data):
        evaluation = Evaluation(sess, dcgan, config, step)
        evaluation.run()
    count, real = evaluation.count, len(evaluation.real_images.indices)
    samples = f'{count:,} samples (seed {evaluation.seed})'
    print(f'Iteration {step}: {samples}, {real:,} real images')
    print(*map(escape, (*evaluation.lines, *evaluation.classes)), sep='\n')
    if evaluation.extractors and count < BIASED:
        bias = 'is biased upwards: compare it only for equal numbers'
        print(f' [!] With fewer than {BIASED:,} samples, the Frechet distance {bias}')
    print_path(evaluation.path)


# fmt: off
FLAGS = Group(
    'Evaluation',
    'how --evaluate measures samples, docs/evaluation.md',
    Flag('evaluate_samples', 10000, 'Samples to evaluate', least=4, most=10**6),
    Flag('features', '', 'Frozen graph or SavedModel that gives features to '
         '--evaluate; default: Inception, if download.py has fetched it', 'path'),
)
