"""Settle what a command line means: the run, its recorded flags, data and sizes.

`config` is main.py's namespace of settings, `flags` the absl FlagValues behind it.
"""

import dataclasses
import os
import shlex

from dcgan.data.celeba import attribute_names, split_attributes
from dcgan.data.idx import idx_summary
from dcgan.data.labels import Classes
from dcgan.runs.run import (
    apply_recorded,
    check_owner,
    class_names_in,
    free_folder,
    given_run,
    has_settings,
    is_locked,
    is_of_dataset,
    newest_run,
    number_labels,
    own_checkpoints,
    recorded_flags,
    recorded_folder,
    run_name,
    set_folders,
    trained_runs,
)
from dcgan.training.checkpoints import (
    checkpoint_dims,
    checkpoints,
    completed_epochs,
    model_settings,
    no_checkpoint,
    usable_checkpoint,
)
from dcgan.training.ema import has_averages
from dcgan.training.options import Options
from dcgan.util.errors import UserError
from dcgan.util.files import expand_path, glob_files, require_writable

SIZES = ['input_height', 'input_width', 'output_height', 'output_width']
# ways to label images, which exclude each other
CLASS_FLAGS = ['conditional', 'attributes', 'labels', 'unconditional']
EXPORT_FLAGS = ['export', 'freeze', 'saved_model']
# recorded flags that define the model, and those that resume its training as well
MODEL_FLAGS = ['dataset', 'batch_size', 'z_dim', 'z_dist', *SIZES]
MODEL_FLAGS += ['gf_dim', 'df_dim', 'gfc_dim', 'dfc_dim']
DATA_FLAGS = ['data_dir', 'input_fname_pattern', 'conditional', 'unconditional']
DATA_FLAGS += ['grayscale', 'attributes', 'labels', 'partition', 'bbox', 'background']
DATA_FLAGS += ['crop', 'cache']
TRAINING_FLAGS = ['epoch', 'learning_rate', 'beta1', 'train_size', 'seed', *DATA_FLAGS]
TRAINING_FLAGS += ['max_to_keep', 'sample_freq', 'ckpt_freq', 'recipe']
WAYS = [f.name for f in dataclasses.fields(Options) if f.name != 'profile']
TRAINING_FLAGS += WAYS
TRAINING_FLAGS += ['G_img_sum', 'gif', 'precision', 'xla', 'ema']
# those that make a difference to what is learned
RESULT_FLAGS = [name for name in MODEL_FLAGS if name != 'dataset']
RESULT_FLAGS += ['learning_rate', 'beta1', 'train_size', 'seed', 'input_fname_pattern']
RESULT_FLAGS += ['conditional', 'unconditional', 'grayscale', 'partition', 'bbox']
RESULT_FLAGS += ['background', 'crop', 'precision', 'attributes', 'labels', 'ema']
RESULT_FLAGS += [name for name in WAYS if not name.endswith('epochs')]
# Flags that a name stands for, see docs/results.md. Without classes, D needs the
# penalty, and then bears higher rates; with classes, it lags behind G.
DEFAULTS = {'g_steps': 2, 'r1': 0.0, 'ema': 0.0, 'beta1': 0.5}
DEFAULTS |= {'learning_rate': 0.0002, 'learning_rate_d': None}
BEST = {'g_steps': 1, 'r1': 10.0, 'ema': 0.999, 'beta1': 0.0, 'learning_rate': 0.0004}
BEST_OF_CLASSES = {'g_steps': 1, 'ema': 0.999, 'learning_rate': 0.0005}
BEST_OF_CLASSES |= {'learning_rate_d': 0.001}
RECIPES = ('faithful', 'best')
BEST_OF_IMAGES = {**BEST, 'batch_size': 32}  # more iterations in the same time


def prepare_training(config, flags):
    """Settle data, sizes and run folder in config; returns (y_dim or None, c_dim)."""
    run_dir, recorded = given_run(config, flags)
    own = own_checkpoints(config, flags)
    if own:
        recorded = with_shapes(recorded, usable_checkpoint(own, config.resume_step))
    recorded = without_classes(recorded, flags)
    apply_recorded(config, flags, recorded, MODEL_FLAGS + TRAINING_FLAGS)
    folder = make_missing_data(config)
    labelled = idx_summary(folder)  # (height, width, classes), or None for images
    data_sizes = same_sizes(*labelled[:2]) if labelled else {}
    apply_recorded(config, flags, {**data_sizes, **recorded}, SIZES)
    y_dim = count_classes(config, folder, labelled)
    check_outputs(config)
    apply_recipe(config, flags, y_dim, not labelled)
    settle_folders(config, flags, run_dir)
    check_owner(config, flags)
    return y_dim, 1 if config.grayscale else 3


def make_missing_data(config):
    """The folder of the data set; digits are drawn where there is none."""
    folder = os.path.join(config.data_dir, config.dataset)
    if config.dataset == 'digits' and not os.path.exists(folder):
        from dcgan.data.digits import make_digits  # SciPy takes time and memory

        make_digits(config.data_dir)
    return folder


def apply_recipe(config, flags, y_dim, is_images):
    """Set the flags of --recipe that are not given; print those that it changes.

    --noema stands for --ema 0. A rate for both networks replaces the rate of D, too.
    """
    if config.noema:
        config.ema = 0.0
    if not flags['recipe'].present:  # a run that resumes has recorded them
        return
    values = dict(DEFAULTS)
    if config.recipe == 'best':
        without_classes = BEST_OF_IMAGES if is_images else BEST
        values |= BEST_OF_CLASSES if y_dim else without_classes
    given = {name for name in values if flags[name].present}
    given |= {'ema'} if config.noema else set()
    given |= {'learning_rate_d'} if 'learning_rate' in given else set()
    changes = []
    for name, value in values.items():
        if name not in given and getattr(config, name) != value:
            setattr(config, name, value)
            changes.append(f'no --{name}' if value is None else f'--{name} {value:g}')
    line = ' '.join(changes) or 'changes nothing'
    print(f' [*] Recipe {config.recipe}: {line}', flush=True)


def settle_folders(config, flags, run_dir):
    """Set the folders of the training run run_dir, or of a new one if it is ''.

    Raises UserError where they cannot be written.
    """
    given = expand_path(flags['checkpoint_dir'].value)
    if not run_dir:
        name_unfinished_run(config, flags)
        run_dir = free_folder(os.path.join(config.out_dir, run_name(config)))
        set_folders(config, flags, run_dir)
        if not os.path.isabs(given) and glob_files(given, '*.index'):
            print(
                f' [!] The checkpoints in {given} are not used; to train from them, '
                f'give --checkpoint_dir {shlex.quote(os.path.abspath(given))}',
                flush=True,
            )
    else:
        set_folders(config, flags, run_dir)
        config.out_name = config.out_name or os.path.basename(run_dir)
    advice = {'out_dir': 'choose another --out_dir'}
    if os.path.exists(run_dir):
        advice['out_dir'] = 'copy the run to another folder, and give that --out_dir'
    for name in ('out_dir', 'checkpoint_dir', 'sample_dir'):
        way_out = advice.get(name, f'choose another --{name}')
        require_writable(getattr(config, name), way_out)


def with_shapes(recorded, path):
    """Recorded flags, and those that they lack from the shapes of a checkpoint."""
    if all(name in recorded for name in MODEL_FLAGS):
        return recorded
    settings = model_settings(path)
    if 'output_height' in settings and 'output_height' not in recorded:
        size = f'{settings["output_height"]}x{settings["output_width"]}'
        print(
            f' [*] Image size {size}, by the shapes of the weights; if the images are '
            'not square, give --output_height and --output_width',
            flush=True,
        )
    return {**settings, **recorded}


def name_unfinished_run(config, flags):
    """Print a line on the newest run of these settings that was not completed."""
    found = sorted(trained_runs(config.out_dir, config.checkpoint_dir))
    for _, run_dir, recorded in reversed(found):
        if not is_of_dataset(config, recorded):
            continue
        if not has_settings(config, flags, recorded, ['epoch', *RESULT_FLAGS]):
            continue
        folder = recorded_folder(recorded, run_dir, 'checkpoint_dir', 'checkpoint')
        complete = (p for p in checkpoints(folder) if os.path.exists(f'{p}.index'))
        epochs = completed_epochs(next(complete, ''), config.train_size)
        if epochs is None or epochs >= config.epoch or is_locked(run_dir):
            continue
        name = shlex.quote(os.path.relpath(run_dir, config.out_dir))
        print(
            f' [*] A new run begins. One of the same settings is unfinished, after '
            f'{epochs} of {config.epoch} epochs: --out_name {name} continues it',
            flush=True,
        )
        return


def count_classes(config, folder, labelled):
    """y_dim: the classes to learn, or None. UserError for flags that do not fit."""
    given = check_classes(config)
    if not labelled:
        if config.unconditional or not given:
            return None
        if config.attributes:  # known without the list, which is long
            return len(attribute_names(split_attributes(config.attributes)))
        return len(Classes(folder, labels=config.labels).names)
    for name in ('bbox', 'partition', 'background', *CLASS_FLAGS[1:3]):
        if getattr(config, name) not in (False, 'all', ''):
            raise UserError(f'--{name} is for images, and {folder} has IDX files')
    return None if config.unconditional else labelled[2]


def without_classes(recorded, flags):
    """Recorded flags without those that label images, if the command line has one."""
    if any(flags[name].present for name in CLASS_FLAGS):
        return {k: v for k, v in recorded.items() if k not in CLASS_FLAGS}
    return recorded


def check_classes(config):
    """The flags that label images. Raises UserError if there are two."""
    given = [f'--{name}' for name in CLASS_FLAGS if getattr(config, name)]
    if len(given) > 1:
        raise UserError(f'{given[0]} and {given[1]} exclude each other')
    return given


def find_run(config, flags):
    """Settle which run to use; returns (y_dim or None, c_dim, path of a checkpoint)."""
    run_dir, recorded = given_run(config, flags)
    is_given, given = bool(run_dir), os.path.normpath(config.checkpoint_dir)
    is_path = flags['checkpoint_dir'].present and given != os.path.basename(given)
    if is_path and not is_given:
        raise no_checkpoint(config.checkpoint_dir)
    run_dir = run_dir or newest_run(config)
    set_folders(config, flags, run_dir)
    if is_given:
        config.out_name = config.out_name or os.path.basename(run_dir)
    path = usable_checkpoint(config.checkpoint_dir, config.resume_step)
    y_dim, c_dim = checkpoint_dims(path)
    recorded = with_shapes(recorded or recorded_flags(run_dir), path)
    recorded = without_classes(recorded, flags)
    names = [*MODEL_FLAGS, 'ema', *(DATA_FLAGS if needs_data(config) else [])]
    apply_recorded(config, flags, recorded, names)
    check_classes(config)
    check_outputs(config)
    config.grayscale = c_dim == 1
    # to draw by averages, their rate does not matter
    is_averaged = has_averages(path) and not config.noema
    config.ema = (config.ema or BEST['ema']) if is_averaged else 0.0
    config.label = number_labels(config.label, class_names_in(run_dir))
    if draws(config, flags):
        require_writable(config.sample_dir, 'choose another --sample_dir')
    folders = [(name, config.checkpoint_dir) for name in EXPORT_FLAGS]
    for name, folder in (*folders, ('evaluate', config.out_dir)):
        if getattr(config, name):
            way_out = 'copy the run to another folder, and give that --out_dir'
            require_writable(folder, way_out)
    return y_dim, c_dim, path


def check_outputs(config):
    """Raise UserError for files of --features and --encode that cannot be used."""
    if config.features and not os.path.exists(config.features):
        raise UserError(f'--features {config.features}: no such file')
    if config.encode and not config.encode.endswith('.npz'):
        raise UserError(f'--encode {config.encode}: the name has to end in .npz')
    if config.encode:
        folder = os.path.dirname(config.encode) or '.'
        require_writable(folder, 'choose another file for --encode')


def draws(config, flags):
    """Whether pictures are to be written by a trained model."""
    is_grid = samples_wanted(config, flags) or visualizes(config, flags)
    return is_grid or config.gif or config.evaluate


def visualizes(config, flags):
    """Whether --visualize_option is to be drawn."""
    return config.visualize or flags['visualize_option'].present


def samples_wanted(config, flags):
    """Whether samples are to be drawn: asked for, or nothing else is."""
    asked = ('generate_test_images', 'separate_images', 'npz')
    is_asked = any(flags[name].present for name in asked)
    others = (*EXPORT_FLAGS, 'train', 'gif', 'evaluate', 'encode', 'page')
    has_other = visualizes(config, flags) or any(getattr(config, n) for n in others)
    return is_asked or not has_other


def needs_data(config):
    """Whether the images of the data set are to be read."""
    return bool(config.train or config.evaluate or config.encode)


def is_by_class(config, y_dim):
    """Whether images get labels: for the model, or to evaluate one without classes."""
    return bool(y_dim) or any(getattr(config, name) for name in CLASS_FLAGS[:3])


def same_sizes(height, width):
    """Settings for images that are read and generated in one size."""
    return dict(zip(SIZES, (height, width, height, width)))
