"""Evaluate a trained model: metrics of its samples, and their nearest real images.

Samples are compared with the data set as the model was trained on it.
"""

import contextlib
import json
import os
import time

import numpy as np

from dcgan.data.dataset import INCEPTION
from dcgan.evaluation.fid import frechet_distance, gaussian
from dcgan.evaluation.inception import GraphExtractor, parts
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
from dcgan.sampling.samples import draw_batches
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
    """An evaluation of a model.DCGAN; `rows` are the lines of evaluations.jsonl.

    lines, classes: the lines of the table of metrics, and of the table of classes.
    """

    def __init__(self, sess, dcgan, config, step: int):
        self.sess, self.dcgan, self.config, self.step = sess, dcgan, config, step
        self.started, self.rows = time.perf_counter(), []
        self.lines, self.classes = [], []
        self.seed, self.count = config.seed or 0, config.evaluate_samples
        folder = os.path.join(config.data_dir, config.dataset)
        path = config.features or os.path.join(config.data_dir, INCEPTION)
        self.extractors = [GraphExtractor(path)] if os.path.exists(path) else []
        names = class_names_in(dcgan.out_dir) if dcgan.y_dim else []
        if names and names != dcgan.data.class_names:
            raise UserError(
                f'{folder}: its classes differ from the classes of the run: '
                f'{printable(", ".join(names))}'
            )
        if not self.extractors and not dcgan.data.classes:
            raise UserError(
                f'{config.dataset} has no labels, and there is no network for '
                'features: run "download.py inception", or give --features FILE'
            )
        own_cache = os.path.join(dcgan.out_dir, 'evaluation')
        self.real_images = RealImages(dcgan.data, folder, own_cache)
        self.classifier = None
        if dcgan.data.classes:
            self.classifier = self.real_images.classifier()
            self.extractors.append(self.classifier)
            print(
                f' [*] Classifier of {config.dataset}: {self.classifier.accuracy:.2%} '
                'of held-out images recognized',
                flush=True,
            )
        self.labels = np.full(self.count, -1)  # of the samples
        if dcgan.y_dim:
            of_real = dcgan.data.labels[self.real_images.indices]
            self.labels = np.resize(of_real, self.count).astype(np.int64)
            held_out = self.real_images.held_out, 'held-out images'
            self._held_out = self.real_images.read_all(*held_out)

    def run(self) -> None:
        """Draw samples, read the real images, and compute all metrics."""
        first = []  # batches of samples, uint8
        features = self._features(self._samples(first), 'samples', self.extractors)
        first = np.concatenate(first)[: self.real_images.most]
        pixels, real = self._compare_pixels(first)
        for extractor, of_samples in zip(self.extractors, features):
            self._compare(extractor, real[extractor], of_samples)
        if self.classifier:
            self._count_classes(self.classifier.predict(features[-1]))
        self._find_copies(first, pixels, real[self.extractors[0]], features[0])

    def _samples(self, first):
        """Yield samples, uint8, and labels, in batches; put QUERIES into `first`."""
        random_state = np.random.get_state()
        np.random.seed(self.seed)
        z = gen_random(self.config.z_dist, (self.count, self.dcgan.z_dim))
        np.random.set_state(random_state)
        z, start = z.astype(np.float32), 0
        with progress_bar('samples', self.count, ' images') as bar:
            for images in draw_batches(self.sess, self.dcgan, z, self.labels, True):
                first.append(images[: max(0, QUERIES - start)])
                yield images, self.labels[start : start + len(images)]
                start += len(images)
                bar.update(len(images))

    def _features(self, batches, kind, extractors, own=None):
        """Features of images by each extractor; own: see Nearest.

        Adds the errors of a nearest-neighbour classifier, if there are classes.
        """
        test = NeighbourTest(*self._held_out, own) if self.dcgan.y_dim else None
        features = [[] for _ in extractors]
        for images, labels in batches:
            for extractor, collected in zip(extractors, features):
                collected.append(extractor.features(images))
            if test:
                test.add(images, labels)
        for count, error in test.errors().items() if test else ():
            title = f'nearest-neighbour error, of {count:,} {kind}'
            self._add(f'nearest_neighbour_error_{count}_{kind}', error, title=title)
        return [np.concatenate(collected) for collected in features]

    def _compare_pixels(self, samples):
        """Read the real images; returns (Nearest in pixels, {extractor: statistics}).

        The queries of Nearest are the samples, followed by as many real images.
        """
        real_images = self.real_images
        indices, count = real_images.indices, min(len(samples), len(real_images))
        chunks = real_images.read(indices[:count], 'first real images')
        real = np.concatenate([images for images, _ in chunks])
        own = np.concatenate([np.full(len(samples), -1), np.arange(count)])
        queries = to_vectors(np.concatenate([samples, real]))
        pixels = Nearest(queries, min(BESIDE, len(real_images) - 1), own)

        def batches():
            for images, labels in real_images.read(indices, 'real images'):
                pixels.add(to_vectors(images))
                yield images, labels

        statistics = {e: real_images.statistics(e) for e in self.extractors}
        missing = [e for e, found in statistics.items() if not found]
        positions = {index: i for i, index in enumerate(indices)}
        own = np.array([positions.get(index, -1) for index in real_images.held_out])
        features = self._features(batches(), 'real', missing, own)
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
        precision, recall = precision_recall(*(f - center for f in compared))
        count = min(map(len, compared))
        self._add('precision', precision, extractor, compared=count)
        self._add('recall', recall, extractor, compared=count)

    def _count_classes(self, predicted):
        """Add accuracy, coverage and entropy by the classifier."""
        classes, by, shares = self.dcgan.data.classes, self.classifier, None
        counts = np.bincount(predicted, minlength=classes)
        if self.dcgan.y_dim:
            is_right = predicted == self.labels
            self._add('accuracy', float(is_right.mean()), by)
            of_class = [is_right[self.labels == number] for number in range(classes)]
            shares = [float(each.mean()) if len(each) else None for each in of_class]
            self._add('accuracy_by_class', shares, by)
        self.classes = class_table(self.dcgan.data.class_names, counts, shares)
        self._add('coverage', counts.tolist(), by)
        self._add('entropy', entropy(counts), by)

    def _find_copies(self, samples, pixels, real, features):
        """Write nearest.png; add the shares of samples closer than real images."""
        count, center = len(samples), real['mu'].astype(np.float32)
        queries = np.concatenate([features[:count], real['features'][:count]]) - center
        nearest = Nearest(queries, pixels.indices.shape[1], pixels.own)
        for part in parts(real['features'], 1000):
            nearest.add(part - center)
        for space, found, by in (
            ('pixels', pixels, None),
            ('features', nearest, self.extractors[0]),
        ):
            first = found.distances[:, 0]
            share = share_closer(first[:count], first[count:])
            self._add(f'closer_in_{space}', share, by)
        found = np.hstack([n.indices[:SHOWN] for n in (pixels, nearest)])
        indices = self.real_images.indices[found]  # [SHOWN, 2 * BESIDE]
        images, _ = self.dcgan.data.take(indices.reshape(-1))
        images = images.reshape(*indices.shape, *images.shape[1:])
        path = os.path.join(self.config.sample_dir, 'nearest.png')
        save_nearest(samples[:SHOWN], images, path)
        print_path(path)

    def _add(self, metric, value, extractor=None, title='', **more):
        """Add a metric to `rows` and, if it is a number, to `lines`."""
        name = extractor and extractor.name
        self.rows.append(
            {
                'measure': metric,
                'value': value,
                **more,
                'extractor': name,
                'sha256': extractor and extractor.digest,
                'samples': self.count,
                'real': len(self.real_images),
                'iteration': self.step,
                'averages': bool(self.dcgan.averages),
                'seed': self.seed,
                'seconds': round(time.perf_counter() - self.started, 1),
            }
        )
        if isinstance(value, list):
            return
        title = title or TITLES.get(metric, metric)
        if name == 'Inception' and metric in INCEPTION_TITLES:
            title = INCEPTION_TITLES[metric]
        elif name:
            title += f' ({name})'
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
    print(
        f'Iteration {step}: {evaluation.count:,} samples (seed {evaluation.seed}), '
        f'{len(evaluation.real_images):,} real images'
    )
    print('\n'.join([*evaluation.lines, *evaluation.classes]), flush=True)
    if evaluation.count < BIASED:
        print(
            f' [!] With fewer than {BIASED:,} samples, the Frechet distance is biased '
            'upwards: compare it only for equal numbers of samples',
            flush=True,
        )
    path = os.path.join(dcgan.out_dir, FILE_NAME)
    with (
        write_errors(path, advice=FREE_SPACE),
        open(path, 'a', encoding='utf-8') as file,
    ):
        file.writelines(f'{json.dumps(row)}\n' for row in evaluation.rows)
    print_path(path)


def class_table(
    names: list[str] | None, counts: np.ndarray, accuracies: list[float | None] | None
) -> list[str]:
    """The lines of the table of classes: their samples and accuracy."""
    heading = f'  {"class":<20} {"samples":>8}'
    lines = [f'{heading} {"accuracy":>9}' if accuracies else heading]
    for number, count in enumerate(counts):
        name = names[number] if names else str(number)
        line = f'  {name[:20]:<20} {count:>8}'
        if accuracies:
            share = accuracies[number]
            line += f' {"-" if share is None else format(share, ".1%"):>9}'
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
