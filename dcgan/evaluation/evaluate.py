"""Evaluate a model: measures of its samples, and their nearest real images."""

import math
import os
from statistics import stdev

import numpy as np

from dcgan.data.dataset import read_images
from dcgan.evaluation.fid import frechet_distance, gaussian
from dcgan.evaluation.kid import kernel_distance
from dcgan.evaluation.ms_ssim import ms_ssim
from dcgan.evaluation.nearest import Nearest, save_nearest, share_closer, to_vectors
from dcgan.evaluation.precision_recall import precision_recall
from dcgan.evaluation.references import References
from dcgan.evaluation.sliced_wasserstein import compare_slices
from dcgan.util.errors import escape
from dcgan.util.output import Extra, print_line, print_path

SAMPLES = 10_000  # without --evaluate_samples
COMPARED = 10_000  # features for the kernel distance, precision and recall, at most
SLICED, PAIRS = 16_384, 10_000  # images for SWD, pairs for MS-SSIM, at most
FITTED_TO = (1_000, 10_000, 100_000)  # images, of nearest-neighbour classifiers
QUERIES = 1_000  # images whose nearest real ones are looked for
SHOWN, BESIDE = 16, 5  # samples in nearest.png, and real images beside each
BIASED = 10_000  # with fewer samples, the bias of the Frechet distance is reported
MAX_BYTES = 1 << 30  # of the samples that are kept, and as many of real images
# names of metrics by Inception in the table
INCEPTION_TITLES = {'frechet_distance': 'FID', 'kernel_distance': 'KID'}


class Evaluation:
    """An evaluation of a model at iteration `step`, and the lines of its two tables."""

    def __init__(self, references: References, step: int):
        self.references, self.step, self.real = references, step, references.real
        self.extractors, self.classifier = references.extractors, references.classifier
        self.is_conditional = bool(references.dcgan.y_dim)
        self.count = references.config.evaluate_samples or SAMPLES
        self.table, self.classes = {}, []  # {title: (value, spread) by seed}, lines
        self.held_out = None
        if self.is_conditional and self.real and self.real.can_test:
            self.held_out = self.real.read_all(self.real.held_out, 'held-out images')

    def run(self, seed: int) -> None:
        """Draw the samples of a seed, read the real images, compute all measures."""
        self.seed, drawn = seed, self.references.samples(self.count, seed)
        samples, labels, features = self._look_at(drawn, 'samples', self.extractors)
        if given := self.references.given:
            self._add_distance(self.extractors[0], given, features[0])
        else:
            pixels, real, statistics = self._read_real(samples)
            for extractor, of_samples in zip(self.extractors, features):
                self._compare(extractor, statistics[extractor], of_samples)
            if self.classifier:
                by = self.extractors.index(self.classifier)
                predicted = self.classifier.predict(features[by])
                self._count_classes(predicted, np.concatenate(labels))
            self._find_copies(samples, pixels, statistics, features)
            distance, details = compare_slices(real, samples)
            if distance is None:
                print_line(' [!] SWD is left out: it takes images of 16 pixels or more')
            else:
                self._add('swd', distance, title='SWD', **details)
            self._compare_pairs('ms_ssim_real', real, 'real images')
        self._compare_pairs('ms_ssim', samples, 'samples')

    def _look_at(self, batches, kind, extractors, own=-1, pixels=None):
        """(the first images, labels, features by extractors) of batches of images.

        Adds errors of nearest-neighbour classifiers of pixels (paper, section 8.1), and
        images to `pixels`.
        """
        features, labels, kept, nearest = [[] for _ in extractors], [], [], None
        count = self.count if kind == 'samples' else len(self.real.indices)
        if self.held_out:
            nearest = Nearest(to_vectors(self.held_out[0]), own=own)
        for images, of_images in batches:
            keep(kept, images, most_kept(images.shape[1:]))
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
        features = [np.concatenate(collected) for collected in features]
        return np.concatenate(kept), labels, features

    def _read_real(self, samples):
        """Read real images; returns (Nearest in pixels, the first images, statistics).

        The queries of Nearest are the first samples, then as many real images.
        """
        indices, data = self.real.indices, self.real.data
        samples = samples[: min(QUERIES, self.real.most)]
        real = self.real.read_all(indices[: len(samples)], 'first real images')[0]
        own = np.concatenate([np.full(len(samples), -1), np.arange(len(real))])
        queries = to_vectors(np.concatenate([samples, real]))
        pixels = Nearest(queries, min(BESIDE, len(indices) - 1), own)
        statistics = {e: self.real.cached_statistics(e) for e in self.extractors}
        missing = [e for e, found in statistics.items() if not found]
        own = np.arange(len(data))[-len(self.real.held_out) :]
        batches = read_images(data, indices, 'real images', 2)
        real, _, features = self._look_at(batches, 'real', missing, own, pixels)
        for extractor, of_real in zip(missing, features):
            statistics[extractor] = self.real.save_statistics(extractor, of_real)
        return pixels, real, statistics

    def _compare(self, extractor, real, features):
        """Add distances, precision and recall of features."""
        self._add_distance(extractor, real, features)
        compared = [f[:COMPARED] for f in (real['features'], features)]
        value, spread = kernel_distance(*compared, np.random.RandomState(0))
        self._add('kernel_distance', value, extractor, spread=spread)
        center = compared[0].mean(axis=0)  # rounding is least around it
        n = min(map(len, compared))  # of both, as in the paper
        shares = precision_recall(*(f[:n] - center for f in compared))
        for metric, share in zip(('precision', 'recall'), shares):
            self._add(metric, share, extractor, compared=n)

    def _add_distance(self, extractor, real, features):
        distance = frechet_distance(real['mu'], real['sigma'], *gaussian(features))
        self._add('frechet_distance', distance, extractor)

    def _compare_pairs(self, metric, images, kind):
        """Add the similarity of each image to the next one; the last to the first."""
        first = images[:PAIRS]
        similarity = ms_ssim(first, np.roll(first, -1, axis=0))
        title = f'MS-SSIM of pairs of {kind}'
        self._add(metric, similarity, title=title, compared=len(first))

    def _count_classes(self, predicted, labels):
        """Add accuracy, coverage and entropy by the classifier."""
        data, by = self.real.data, self.classifier
        counts = np.bincount(predicted, minlength=data.classes)
        names = data.class_names or map(str, range(data.classes))
        self.classes = [f'  {"class":<20} {"samples":>8}']
        self.classes += [f'  {name[:20]:<20} {n:>8}' for name, n in zip(names, counts)]
        if self.is_conditional:
            is_right = predicted == labels
            self._add('accuracy', float(is_right.mean()), by)
            of_class = [is_right[labels == n] for n in range(data.classes)]
            shares = [float(each.mean()) if len(each) else None for each in of_class]
            self._add('accuracy_by_class', shares, by)
            column = ['-' if share is None else f'{share:.1%}' for share in shares]
            column = zip(self.classes, ['accuracy', *column])
            self.classes = [f'{line} {cell:>9}' for line, cell in column]
        self._add('coverage', counts.tolist(), by)
        self._add('entropy', entropy(counts), by)

    def _find_copies(self, samples, pixels, statistics, features):
        """Add the shares of samples closer than real images; write nearest.png."""
        count, by = int((pixels.own < 0).sum()), self.extractors[0]
        real, center = statistics[by]['features'], np.float32(statistics[by]['mu'])
        queries = np.concatenate([features[0][:count], real[:count]]) - center
        nearest = Nearest(queries, pixels.indices.shape[1], pixels.own)
        for part in np.split(real, range(1000, len(real), 1000)):
            nearest.add(part - center)
        spaces = ('pixels', pixels, None), ('features', nearest, by)
        for space, found, by in spaces:
            share = share_closer(*np.split(found.distances[:, 0], [count]))
            title = f'closer than real images, in {space}'
            self._add(f'closer_in_{space}', share, by, title=title)
        path = os.path.join(self.references.config.sample_dir, 'nearest.png')
        with Extra(path):
            found = np.stack([n.indices[:count][:SHOWN] for _, n, _ in spaces], axis=1)
            indices = self.real.indices[found]  # [SHOWN, spaces, BESIDE]
            images, _ = self.real.data.take(indices.reshape(-1))
            images = images.reshape(*indices.shape, *images.shape[1:])
            save_nearest(samples[:SHOWN], images, path)
            print_path(path)

    def _add(self, metric, value, extractor=None, title='', **more):
        """Record a measure and, if it is a number, add it to `table`."""
        more |= {'samples': self.count, 'iteration': self.step, 'seed': self.seed}
        self.references.record(metric, value, extractor, **more)
        if isinstance(value, list):
            return
        name = extractor and extractor.name
        title = title or metric.replace('_', ' ').replace('frechet', 'Frechet')
        title += f' ({name})' if name else ''
        if name == 'Inception':
            title = INCEPTION_TITLES.get(metric, title)
        self.table.setdefault(title, []).append((value, more.get('spread')))

    def lines(self) -> list[str]:
        """The tables. With several seeds, values are means, with their deviations."""
        lines = []
        for title, found in self.table.items():
            values = [value for value, _ in found]
            spread = stdev(values) if len(values) > 1 else found[0][1]
            more = '' if spread is None else f' +- {spread:.4g}'
            lines.append(f'  {title:<54} {np.mean(values):.4g}{more}')
        return lines + self.classes


def most_kept(shape: tuple[int, int, int]) -> int:
    """How many images of this shape are kept for SWD and MS-SSIM."""
    return min(SLICED, max(QUERIES, MAX_BYTES // math.prod(shape)))


def keep(kept: list[np.ndarray], images: np.ndarray, most: int) -> None:
    """Append to `kept` those of images that are among the first `most`."""
    if (more := most - sum(map(len, kept))) > 0:  # a view of none would keep them all
        kept.append(images[:more])


def entropy(counts: np.ndarray) -> float:
    """The entropy, in nats, of the distribution that has these counts."""
    shares = counts[counts > 0] / counts.sum()
    return float(-(shares * np.log(shares)).sum()) + 0.0  # never -0


def span(seeds: range) -> str:
    """`seed 0`, or `seeds 0 to 4`."""
    return f'seed {seeds[0]}' if len(seeds) == 1 else f'seeds {seeds[0]} to {seeds[-1]}'


def evaluate(references: References, step: int) -> None:
    """Print all measures of a model at iteration `step`; record them.

    Raises UserError for data that cannot be used.
    """
    evaluation, seeds = Evaluation(references, step), references.seeds
    for seed in seeds:
        evaluation.run(seed)
    count, to = evaluation.count, references.config.statistics
    if references.real:
        to = f'{len(references.real.indices):,} real images'
    print_line(f'Iteration {step}: {count:,} samples ({span(seeds)}), {to}')
    print(*map(escape, evaluation.lines()), sep='\n')
    if count < BIASED:
        bias = 'is biased upwards: compare it only for equal numbers'
        print(f' [!] With fewer than {BIASED:,} samples, the Frechet distance {bias}')
    print_path(references.path)
