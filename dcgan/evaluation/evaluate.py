"""Evaluate a trained model: metrics of its samples, and their nearest real images.

Samples are compared with the data set as the model was trained on it.
"""

import contextlib
import functools
import json
import os
import re
import time

import numpy as np

from dcgan.data.dataset import INCEPTION
from dcgan.evaluation.fid import frechet_distance, gaussian
from dcgan.evaluation.inception import GraphExtractor
from dcgan.evaluation.kid import kernel_distance
from dcgan.evaluation.nearest import (
    Nearest,
    NeighbourTest,
    save_nearest,
    share_closer,
    to_vectors,
)
from dcgan.evaluation.precision_recall import precision_recall
from dcgan.evaluation.real_images import RealImages
from dcgan.runs.run import class_names_in
from dcgan.sampling.samples import draw_batches, images_per_call
from dcgan.util.errors import UserError, printable
from dcgan.util.files import FREE_SPACE, write_errors
from dcgan.util.flags import Flag, Group
from dcgan.util.output import print_path
from dcgan.util.progress import progress_bar
from dcgan.util.z import gen_random

FILE_NAME = 'evaluations.jsonl'  # in the run folder
COMPARED = 10_000  # features for the kernel distance, precision and recall, at most
QUERIES = 1_000  # images whose nearest real ones are looked for
SHOWN, BESIDE = 16, 5  # samples in nearest.png, and real images beside each
BIASED = 10_000  # with fewer samples, the bias of the Frechet distance is reported
# names of metrics in the table
INCEPTION_TITLES = {'frechet_distance': 'FID', 'kernel_distance': 'KID'}
TITLES = {
    'frechet_distance': 'Frechet distance',
    'kernel_distance': 'kernel distance',
    'closer_in_pixels': 'closer than real images, in pixels',
    'closer_in_features': 'closer than real images, in features',
}


class Evaluation:
    """An evaluation of a model.DCGAN. `rows` are the lines of evaluations.jsonl."""

    def __init__(self, sess, dcgan, config, step: int):
        self.sess, self.dcgan, self.config, self.step = sess, dcgan, config, step
        self.started, self.rows = time.perf_counter(), []
        self.seed = 0 if config.seed is None else config.seed
        self.count = config.evaluate_samples
        folder = os.path.join(config.data_dir, config.dataset)
        names = class_names_in(config.out_dir) if dcgan.y_dim else []
        if names and names != dcgan.data.class_names:
            raise UserError(
                f'{folder}: its classes differ from the classes of the run: '
                f'{printable(", ".join(names))}'
            )
        graph = find_extractor(config)
        if not graph and not dcgan.data.classes:
            raise UserError(
                f'{config.dataset} has no labels, and there is no network for '
                'features: run "download.py inception", or give --features FILE'
            )
        self.real_images = RealImages(dcgan.data, folder, config.out_dir)
        self.queries = min(QUERIES, self.real_images.most)
        self.classifier = None
        if dcgan.data.classes:
            self.classifier = self.real_images.classifier()
            print(
                f' [*] Classifier of {config.dataset}: {self.classifier.accuracy:.2%} '
                'of held-out images recognized',
                flush=True,
            )
        self.extractors = [e for e in (graph, self.classifier) if e]
        self.labels = None  # of the samples
        if dcgan.y_dim:
            self.labels = self.real_images.labels(self.count)

    def run(self) -> None:
        """Draw samples, read the real images, and compute all metrics."""
        images, features = self._draw()
        pixels, real = self._read(images)
        for extractor, of_samples in zip(self.extractors, features):
            self._compare(extractor, real[extractor], of_samples)
        if self.classifier:
            self._count_classes()
        self._find_copies(images, pixels, real[self.extractors[0]], features[0])

    def _draw(self):
        """Draw samples; returns (the first ones, uint8; features by each extractor).

        Sets `predicted`, their labels by the classifier, and adds the errors of a
        nearest-neighbour classifier.
        """
        size, z_dist = images_per_call(self.dcgan), self.config.z_dist
        test, first, self.predicted = self._neighbour_test(), [], []
        features = [[] for _ in self.extractors]
        random_state = np.random.get_state()
        np.random.seed(self.seed)
        with progress_bar('samples', self.count, ' images') as bar:
            for start in range(0, self.count, size):
                shape = min(size, self.count - start), self.dcgan.z_dim
                z = gen_random(z_dist, shape).astype(np.float32)
                labels = None
                if self.dcgan.y_dim:
                    labels = self.labels[start : start + len(z)]
                (images,) = draw_batches(self.sess, self.dcgan, z, labels, True)
                if start < self.queries:
                    first.append(images)
                for extractor, collected in zip(self.extractors, features):
                    collected.append(self._features(extractor, images))
                if test:
                    test.add(images, labels)
                bar.update(len(images))
        np.random.set_state(random_state)
        if test:
            test.record()
            self._add_errors(test, 'samples')
        first = np.concatenate(first)[: self.queries]
        return first, list(map(np.concatenate, features))

    def _features(self, extractor, images):
        if extractor is not self.classifier:
            return extractor.features(images)
        features, predicted = self.classifier.classify(images)
        self.predicted.extend(predicted)
        return features

    def _neighbour_test(self, own=None):
        """A NeighbourTest on the held-out images; None for a model without classes."""
        if not self.dcgan.y_dim:
            return None
        return NeighbourTest(*self._held_out, own)

    @functools.cached_property
    def _held_out(self):
        return self.real_images.read_all(self.real_images.held_out, 'held-out images')

    def _add_errors(self, test, kind):
        for count, error in test.errors.items():
            self._add(f'nearest_neighbour_error_{count}_{kind}', error)

    def _read(self, samples):
        """Read the real images; returns (Nearest in pixels, {extractor: statistics}).

        The queries of Nearest are the samples, followed by as many real images.
        """
        real_images = self.real_images
        positions = {index: i for i, index in enumerate(real_images.indices)}
        own = [positions.get(index, -1) for index in real_images.held_out]
        test = self._neighbour_test(np.array(own))
        statistics = {e: real_images.statistics(e) for e in self.extractors}
        missing = {e: [] for e, found in statistics.items() if found is None}
        count = min(len(samples), len(real_images))
        chunks = real_images.read(real_images.indices[:count], 'first real images')
        real = np.concatenate([images for images, _ in chunks])
        own = np.concatenate([np.full(len(samples), -1), np.arange(count)])
        queries = to_vectors(np.concatenate([samples, real]))
        pixels = Nearest(queries, min(BESIDE, len(real_images) - 1), own)
        for images, labels in real_images.read(real_images.indices, 'real images'):
            pixels.add(to_vectors(images))
            for extractor, collected in missing.items():
                collected.append(extractor.features(images))
            if test:
                test.add(images, labels)
        if test:
            test.record()
            self._add_errors(test, 'real')
        for extractor, collected in missing.items():
            features = np.concatenate(collected)
            statistics[extractor] = real_images.save_statistics(extractor, features)
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
        for name, share in zip(('precision', 'recall'), shares):
            number = min(map(len, compared))
            self._add(name, share, extractor, compared=number)

    def _count_classes(self):
        """Add accuracy, coverage and entropy by the classifier."""
        predicted, classes = np.array(self.predicted), self.dcgan.data.classes
        if self.labels is not None:
            is_right = predicted == self.labels
            self._add('accuracy', float(is_right.mean()), self.classifier)
            by_class = [
                float(is_right[self.labels == n].mean())
                if (self.labels == n).any()
                else None
                for n in range(classes)
            ]
            self._add('accuracy_by_class', by_class, self.classifier)
        counts = np.bincount(predicted, minlength=classes)
        self._add('coverage', counts.tolist(), self.classifier)
        self._add('entropy', entropy(counts), self.classifier)

    def _find_copies(self, samples, pixels, real, features):
        """Write nearest.png; add the shares of samples closer than real images."""
        center = real['mu'].astype(np.float32)
        own = np.concatenate([np.full(len(samples), -1), np.arange(len(samples))])
        own = own[: len(pixels.queries)]
        both = [features[: len(samples)], real['features'][: len(samples)]]
        nearest = Nearest(np.concatenate(both) - center, pixels.indices.shape[1], own)
        for start in range(0, len(real['features']), 1000):
            nearest.add(real['features'][start : start + 1000] - center)
        for space, found in ('pixels', pixels), ('features', nearest):
            first = found.distances[:, 0]
            share = share_closer(first[: len(samples)], first[len(samples) :])
            extractor = self.extractors[0] if space == 'features' else None
            self._add(f'closer_in_{space}', share, extractor)
        found = [n.indices[:SHOWN] for n in (pixels, nearest)]
        indices = self.real_images.indices[np.hstack(found)]  # [SHOWN, 2 * BESIDE]
        images, _ = self.dcgan.data.take(indices.reshape(-1))
        images = images.reshape(*indices.shape, *images.shape[1:])
        path = os.path.join(self.config.sample_dir, 'nearest.png')
        save_nearest(samples[:SHOWN], images, path)
        print_path(path)

    def _add(self, metric, value, extractor=None, **more):
        self.rows.append(
            {
                'measure': metric,
                'value': value,
                **more,
                'extractor': extractor and extractor.name,
                'sha256': extractor and extractor.digest,
                'samples': self.count,
                'real': len(self.real_images),
                'iteration': self.step,
                'averages': bool(self.dcgan.averages),
                'seed': self.seed,
                'seconds': round(time.perf_counter() - self.started, 1),
            }
        )

    def close(self) -> None:
        """Close the sessions of the extractors."""
        for extractor in self.extractors:
            extractor.close()


def entropy(counts: np.ndarray) -> float:
    """The entropy, in nats, of the distribution that has these counts."""
    shares = counts[counts > 0] / counts.sum()
    return float(-(shares * np.log(shares)).sum()) + 0.0  # never -0


def find_extractor(config) -> GraphExtractor | None:
    """The extractor of --features, or Inception where it has been downloaded."""
    if config.features:
        return GraphExtractor(config.features)
    path = os.path.join(config.data_dir, INCEPTION)
    return GraphExtractor(path) if os.path.exists(path) else None


def evaluate(sess, dcgan, config, step: int) -> None:
    """Compute all metrics of a trained model.DCGAN, and print a table of them.

    Each metric is appended to evaluations.jsonl in the run folder, as a line. Raises
    UserError if no network gives features, or files cannot be read or written.
    """
    with contextlib.closing(dcgan.data):
        evaluation = Evaluation(sess, dcgan, config, step)
        with contextlib.closing(evaluation):
            evaluation.run()
    print('\n'.join(table(evaluation, dcgan.data.class_names)), flush=True)
    path = os.path.join(config.out_dir, FILE_NAME)
    lines = ''.join(f'{json.dumps(row)}\n' for row in evaluation.rows)
    with (
        write_errors(path, advice=FREE_SPACE),
        open(path, 'a', encoding='utf-8') as file,
    ):
        file.write(lines)
    print_path(path)


def title_of(row: dict) -> str:
    """The name of a metric in the table."""
    metric, extractor = row['measure'], row['extractor']
    if extractor == 'Inception' and metric in INCEPTION_TITLES:
        return INCEPTION_TITLES[metric]
    if match := re.fullmatch(r'nearest_neighbour_error_(\d+)_(\w+)', metric):
        title = f'nearest-neighbour error, of {int(match[1]):,} {match[2]}'
    else:
        title = TITLES.get(metric, metric)
    return f'{title} ({extractor})' if extractor else title


def table(evaluation: Evaluation, class_names: list[str] | None) -> list[str]:
    """The lines of the table of metrics."""
    lines = [
        f'Iteration {evaluation.step}: {evaluation.count:,} samples (seed '
        f'{evaluation.seed}), {len(evaluation.real_images):,} real images',
    ]
    for row in evaluation.rows:
        value = row['value']
        if isinstance(value, list):
            continue
        spread = f' +- {row["spread"]:.4g}' if 'spread' in row else ''
        lines.append(f'  {title_of(row):<52} {value:.4g}{spread}')
    lines += class_table(evaluation.rows, class_names)
    if evaluation.count < BIASED:
        lines.append(
            f' [!] With fewer than {BIASED:,} samples, the Frechet distance is biased '
            'upwards: compare it only for equal numbers of samples'
        )
    return lines


def class_table(rows: list[dict], class_names: list[str] | None) -> list[str]:
    """The lines of the table of classes: their samples and accuracy."""
    by_name = {row['measure']: row['value'] for row in rows}
    if 'coverage' not in by_name:
        return []
    counts, accuracies = by_name['coverage'], by_name.get('accuracy_by_class')
    heading = f'  {"class":<20} {"samples":>8}'
    lines = [heading + (f' {"accuracy":>9}' if accuracies else '')]
    for number, count in enumerate(counts):
        name = class_names[number] if class_names else str(number)
        line = f'  {name[:20]:<20} {count:>8}'
        if accuracies:
            accuracy = accuracies[number]
            line += '         -' if accuracy is None else f' {accuracy:>9.1%}'
        lines.append(line)
    return lines


# fmt: off
FLAGS = Group(
    'Evaluation',
    'how --evaluate measures samples, docs/evaluation.md',
    Flag('evaluate_samples', 10000, 'Samples to evaluate', least=4),
    Flag('features', '', 'Frozen graph or SavedModel that gives features to '
         '--evaluate; default: Inception, if download.py has fetched it', 'path'),
)
