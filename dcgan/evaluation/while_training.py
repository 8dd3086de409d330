"""Measure samples with few numbers: while a model trains, and for all checkpoints."""

import os
from statistics import stdev

import numpy as np

from dcgan.evaluation.evaluate import keep, most_kept, span
from dcgan.evaluation.fid import frechet_distance, gaussian
from dcgan.evaluation.references import References
from dcgan.evaluation.sliced_wasserstein import SMALLEST, compare_slices
from dcgan.record.curves import import_figure
from dcgan.training.checkpoints import BEST, checkpoints, step_of
from dcgan.util.errors import UserError
from dcgan.util.files import atomic_path
from dcgan.util.output import Extra, print_line, print_path

SAMPLES = 2_000  # without --evaluate_samples
SWD = 'SWD'


class Evaluator:
    """Measures a model.DCGAN as it is: what training/best.py calls an evaluator.

    Raises UserError for a --best_by that cannot be measured.
    """

    def __init__(self, references: References):
        config = references.config
        self.references, self.every = references, config.evaluate_freq
        self.count = config.evaluate_samples or SAMPLES
        to = f' against {config.statistics}' if config.statistics else ''
        self.about = f'{self.count:,} samples{to}'
        tags = {tag_of(extractor): extractor for extractor in references.extractors}
        self.best_by = config.best_by or next(iter(tags))
        real, choices = references.real, [*tags]
        if real and min(real.shape[:2]) >= SMALLEST:
            choices.append(SWD)
        if self.best_by not in choices:
            names = ', '.join(choices)
            raise UserError(f'--best_by {self.best_by}: give one of {names}')
        self.tag = self.best_by if self.best_by in tags else next(iter(tags))
        self.extractor = tags[self.tag]
        found = references.given or real.statistics(self.extractor)
        self.gaussian = found['mu'], found['sigma']
        self.kept = most_kept(real.shape) if self.best_by == SWD else 0
        if self.kept:
            indices = real.indices[: min(self.count, self.kept)]
            self.images = real.read_all(indices, 'real images')[0]

    def measure(self, seed: int = 0) -> dict[str, float]:
        """{tag: value} of samples of a seed; the first decides."""
        features, kept = [], []
        for images, _ in self.references.samples(self.count, seed):
            features.append(self.extractor.features(images))
            keep(kept, images, self.kept)
        mean, covariance = gaussian(np.concatenate(features))
        values = {self.tag: frechet_distance(*self.gaussian, mean, covariance)}
        if kept:
            distance, _ = compare_slices(self.images, np.concatenate(kept))
            values = {SWD: distance} | values
        return values


def tag_of(extractor) -> str:
    """What names the Frechet distance by an extractor in TensorBoard and --best_by."""
    if extractor.name == 'Inception':
        return 'FID'
    return f'FD_{extractor.name.replace(" ", "_")}'


def evaluate_all(references: References) -> None:
    """Measure each checkpoint of a run; print a table, draw evaluations.png.

    With --evaluate_repeats N, values are means over N seeds, with their deviations.
    """
    evaluator, dcgan = Evaluator(references), references.dcgan
    folder, seeds = references.config.checkpoint_dir, references.seeds
    best_by, by, found = evaluator.best_by, evaluator.extractor, {}
    measure, by = ('swd', None) if best_by == SWD else ('frechet_distance', by)
    paths = [*checkpoints(os.path.join(folder, BEST)), *checkpoints(folder)]
    # the best one is often kept twice
    for step, path in sorted({step_of(path): path for path in paths}.items()):
        with (loaded := Extra(path)):
            dcgan.load(folder, path=path)
        if loaded.works:
            found[step] = [evaluator.measure(seed)[best_by] for seed in seeds]
        for seed, value in zip(seeds, found.get(step, [])):
            more = {'samples': evaluator.count, 'iteration': step, 'seed': seed}
            references.record(measure, value, by, **more)
    means = [np.mean(values) for values in found.values()]
    deviations = [stdev(v) if len(v) > 1 else 0 for v in found.values()]
    print_line(f'  iteration  {best_by} of {evaluator.about} ({span(seeds)})')
    for step, mean, deviation in zip(found, means, deviations):
        more = f' +- {deviation:.2g}' if len(seeds) > 1 else ''
        is_best = ', the best' if mean == min(means) else ''
        print_line(f'  {step:>9}  {mean:.4g}{more}{is_best}')
    path = os.path.join(dcgan.out_dir, 'evaluations.png')
    with Extra(path), atomic_path(path) as temporary:
        axes = (figure := import_figure()(layout='constrained')).subplots()
        axes.errorbar([*found], means, deviations, marker='o', capsize=3)
        axes.set(xlabel='iteration', ylabel=best_by)
        figure.savefig(temporary, format='png', dpi=100)
        print_path(path)
