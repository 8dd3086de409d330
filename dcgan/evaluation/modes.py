"""The modes of main.py that measure samples, --evaluate, and images, --encode."""

import contextlib

from dcgan.evaluation.encode import encode
from dcgan.evaluation.evaluate import evaluate
from dcgan.evaluation.references import References
from dcgan.evaluation.while_training import Evaluator, evaluate_all
from dcgan.util.flags import Flag, Group


def run(dcgan, config, step: int, todo: set[str]) -> None:
    """Do those of the modes that are in todo, of a model.DCGAN at iteration `step`."""
    if 'evaluate' in todo:
        with contextlib.closing(References(dcgan, config)) as references:
            if config.write_statistics:
                references.write_statistics(config.write_statistics)
            if config.evaluate_all:
                evaluate_all(references)
            elif config.evaluate or not config.write_statistics:
                evaluate(references, step)
    if 'encode' in todo:
        encode(dcgan.sess, dcgan, config.encode, config.train_size)


def while_training(dcgan, config) -> None:
    """Give the model what --evaluate_freq asks for."""
    if config.evaluate_freq and dcgan.workers.is_chief:
        dcgan.evaluator = Evaluator(References(dcgan, config))


# fmt: off
FLAGS = Group(
    'Evaluation',
    'how samples are measured, docs/evaluation.md',
    Flag('evaluate_samples', None, 'Samples to evaluate; default: 10,000, and 2,000 '
         'while training and for --evaluate_all', 'training', type=int, least=4,
         most=10**6),
    Flag('evaluate_repeats', 1, 'Evaluations, each of the next seed, for means and '
         'deviations', least=1),
    Flag('evaluate_all', False, 'Evaluate all checkpoints of a run', 'task'),
    Flag('evaluate_freq', 0, 'Iterations between evaluations while training, of which '
         'the best checkpoint is kept; 0: none', 'training', least=0),
    Flag('best_by', '', 'Measure that --evaluate_freq and --evaluate_all compare, such '
         'as FID or SWD; default: the first Frechet distance there is', 'training'),
    Flag('evaluate_reading', 'training', 'How real images are read; plain: without '
         'stretching their contrast, as for published numbers',
         choices=('training', 'plain')),
    Flag('features', '', 'Frozen graph or SavedModel that gives features to '
         '--evaluate; default: Inception, if download.py has fetched it',
         'path training'),
    Flag('statistics', '', 'File of mu and sigma that samples are compared with, in '
         'place of the data set', 'path training'),
    Flag('write_statistics', '', 'File to write, of mu and sigma of the data set',
         'path'),
)
