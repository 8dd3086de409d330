"""Settle what a command line means: the run, its recorded flags, data and sizes.

`config` is main.py's namespace of settings, `flags` the table behind it.
"""

import os
import shlex
from pathlib import Path
from typing import NamedTuple

from dcgan.data.idx import array_summary
from dcgan.data.labels import Classes, class_names_in, find_labels, split_attributes
from dcgan.runs.find_run import chosen_folders, meant_run, print_unfinished
from dcgan.runs.flags_json import recall
from dcgan.runs.recipes import BEST, apply_recipe
from dcgan.runs.run import Run, new_run, number_labels
from dcgan.training.checkpoints import index_files, read_usable, usable_checkpoint
from dcgan.training.ema import has_averages
from dcgan.training.weights import checkpoint_dims, model_settings
from dcgan.util.errors import UserError
from dcgan.util.files import require_writable
from dcgan.util.flags import Flags
from dcgan.util.output import print_line

OWN_DATA = 'dataset'  # as pictures to invert: those of the run's own data set


class Settled(NamedTuple):
    """What a command line means, besides its settings."""

    run: Run | None  # None in a worker that is not the chief
    y_dim: int | None  # number of classes that the model learns
    c_dim: int  # number of channels of its images
    checkpoint: str | None = None  # path of the checkpoint to load


def settle_training(config, flags: Flags) -> Settled:
    """Settle the run, the data, the sizes and the recipe of a training, in config."""
    check_paths(config, flags)
    chosen, own = chosen_folders(config, flags)
    run = meant_run(config, flags, chosen, own)
    recorded = flags.recorded = run.recorded if run else {}
    if own:
        path = usable_checkpoint(own, config.resume_step)
        recorded = with_shapes(recorded, path, flags)
    recall(config, flags, recorded, flags.names('model', 'data', 'training'))
    folder = os.path.join(config.data_dir, config.dataset)
    make_missing_data(folder)
    idx = array_summary(folder)  # (height, width, classes), or None for images
    if idx:
        sizes = flags.names('size')
        recall(config, flags, {**dict(zip(sizes, 2 * idx[:2])), **recorded}, sizes)
    y_dim = count_classes(config, folder, idx, flags)
    is_new = not (own or (run and index_files(run.checkpoint_dir)))
    apply_recipe(config, flags, y_dim, not idx, is_new)
    if not run:
        print_unfinished(config, flags)
        run = new_run(config, chosen)
    run.settle(config)
    run.check(config.data_dir, config.dataset, bool(flags.given('out_name')))
    ignored = chosen.get('checkpoint_dir', 'checkpoint')
    if run.is_new and not os.path.isabs(ignored) and index_files(ignored):
        advice = f'give --checkpoint_dir {shlex.quote(os.path.abspath(ignored))}'
        problem = f'The checkpoints in {ignored} are not used'
        print_line(f' [!] {problem}; to train from them, {advice}')
    return Settled(run, y_dim, 1 if config.grayscale else 3)


def settle_use(config, flags: Flags) -> Settled:
    """Settle the trained run to use, and its recorded flags, in config."""
    run = meant_run(config, flags, *chosen_folders(config, flags))
    run.settle(config)
    flags.recorded = run.recorded

    def read(path):
        # recorded only of networks that a user has written
        c_dim = run.recorded.get('c_dim')
        dims = (run.recorded.get('y_dim'), c_dim) if c_dim else checkpoint_dims(path)
        recorded = with_shapes(run.recorded, path, flags)
        return path, recorded, has_averages(path), *dims

    folder, step = run.checkpoint_dir, config.resume_step
    path, recorded, averages, y_dim, c_dim = read_usable(read, folder, step)
    todo = tasks(config, flags)
    reads_pictures = needs_data(config) or todo & {'page', *flags.names('inversion')}
    parts = ['model', 'data'] if reads_pictures else ['model']
    recall(config, flags, recorded, flags.names(*parts))
    given_labels(config, flags)
    check_paths(config, flags)
    config.grayscale = c_dim == 1
    is_raw = flags.given('ema') and not config.ema
    rate = config.ema or BEST['ema']  # to draw by averages, it does not matter
    config.ema = rate if averages and not is_raw else 0.0
    config.label = number_labels(config.label, class_names_in(run.folder))
    if todo & {'samples', 'visualize', 'gif', *flags.names('inversion')}:
        require_writable(config.sample_dir, 'choose another --sample_dir')
    advice = 'copy the run to another folder, and give that --out_dir'
    if todo & {*flags.names('export')}:
        require_writable(run.checkpoint_dir, advice)
    if 'evaluate' in todo:
        require_writable(run.folder, advice)
    return Settled(run, y_dim, c_dim, path)


def model_arguments(config, flags: Flags, settled: Settled, parameters: list) -> dict:
    """The arguments of DCGAN, including its parameters that are flags."""
    arguments = {n: value for n, value in vars(config).items() if n in parameters}
    arguments.pop('workers')  # only their number
    if not needs_data(config):
        arguments['data_dir'] = None
    is_default = config.input_fname_pattern == flags['input_fname_pattern'].default
    if is_default and not flags.given('input_fname_pattern'):
        arguments['input_fname_pattern'] = None
    if config.evaluate_reading == 'plain':
        arguments['stretch'] = False
    is_labelled = config.conditional or config.attributes or config.labels
    return {
        **arguments,
        'by_class': bool(settled.y_dim or is_labelled),
        'y_dim': settled.y_dim,
        'c_dim': settled.c_dim,
        'dataset_name': config.dataset,
        'sample_num': config.batch_size,
    }


def make_missing_data(folder: str) -> None:
    """Draw the data set `digits` where its folder is missing."""
    data_dir, name = os.path.split(folder)
    if name == 'digits' and not os.path.exists(folder):
        from dcgan.data.digits import make_digits  # SciPy takes time and memory

        make_digits(data_dir)


def with_shapes(recorded: dict, path: str, flags: Flags) -> dict:
    """Recorded flags and, where they lack some, the shapes of a checkpoint's model."""
    newer = {'layers', 'max_filters'}  # runs without them have the default's networks
    if {*flags.names('model')} - newer <= {*recorded}:
        return recorded
    settings = model_settings(path)
    if 'output_height' in settings and 'output_height' not in recorded:
        size = f'{settings["output_height"]}x{settings["output_width"]}'
        advice = 'if images are not square, give --output_height and --output_width'
        print(f' [*] Image size {size}, by the shapes of the weights; {advice}')
    return {**settings, **recorded}


def given_labels(config, flags: Flags) -> list[str]:
    """The flags that label images; finds the file --labels. UserError for two flags."""
    names = [name for name in flags.names('labels') if getattr(config, name)]
    if len(names) > 1:
        raise UserError(f'--{names[0]} and --{names[1]} exclude each other')
    if config.labels and needs_data(config):
        folder = os.path.join(config.data_dir, config.dataset)
        path = find_labels(config.labels, folder, bool(flags.given('labels')))
        print_line(f' [*] Labels: {path}')
        folder, path = map(os.path.realpath, (folder, path))
        is_near = Path(path).is_relative_to(os.path.dirname(folder))  # moves with it
        config.labels = os.path.relpath(path, folder) if is_near else path
    return names


def count_classes(config, folder: str, idx: tuple | None, flags: Flags) -> int | None:
    """y_dim: the classes to learn, or None. UserError for flags that do not fit."""
    labels = given_labels(config, flags)
    if not idx:
        if config.unconditional or not labels:
            return None
        if config.attributes:  # known without the list, which is long
            return 2 ** len(split_attributes(config.attributes))
        return len(Classes(folder, labels=config.labels).names)
    for name in ('bbox', 'partition', 'background', 'attributes', 'labels'):
        if getattr(config, name) not in (False, 'all', ''):
            raise UserError(f'--{name} is for images, and {folder} has IDX or batches')
    return None if config.unconditional else idx[2]


def check_paths(config, flags: Flags) -> None:
    """Raise UserError for files and folders of flags that cannot be used."""
    for name in ('features', 'statistics', 'held_out', *flags.names('inversion')):
        path = getattr(config, name)
        is_own = path == OWN_DATA and name in flags.names('inversion')
        if path and not is_own and not os.path.exists(path):
            raise UserError(f'--{name} {path}: no such file or folder')
    for name in ('encode', 'write_statistics'):
        path = getattr(config, name)
        if path and not path.endswith('.npz'):
            raise UserError(f'--{name} {path}: the name has to end in .npz')
        if path:
            require_writable(os.path.dirname(path) or '.', f'choose another --{name}')
    if config.train and config.evaluate_reading == 'plain':
        raise UserError('--evaluate_reading plain: give it once the run is trained')
    if config.statistics and config.write_statistics:
        raise UserError('--statistics and --write_statistics exclude each other')


def tasks(config, flags: Flags) -> set[str]:
    """What to do: the flags that ask for it, and `samples` if they or nothing does."""
    names = {n for n in flags.names('task', 'export') if getattr(config, n)}
    if flags.given('visualize_option'):
        names.add('visualize')
    if is_evaluated(config):
        names.add('evaluate')
    if names & {*flags.names('inversion')}:  # --gif and such change what they write
        return names - {'gif'}
    if flags.given(*flags.names('samples')) or not names:
        names.add('samples')
    return names


def needs_data(config) -> bool:
    """Whether the images of the data set are to be read."""
    is_own = OWN_DATA in (config.invert, config.complete, config.anomaly)
    is_compared = is_evaluated(config) and not config.statistics
    is_shown = config.visualize_option in ('filters', '8')
    return bool(config.train or is_compared or config.encode or is_own or is_shown)


def is_evaluated(config) -> bool:
    """Whether samples are to be evaluated: by --evaluate, or a flag that implies it."""
    implied = config.statistics or config.evaluate_repeats > 1
    is_asked = config.evaluate or config.evaluate_all or config.write_statistics
    return bool(is_asked or (implied and not config.train))
