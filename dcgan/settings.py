"""Settle what a command line means: the run, its recorded flags, data and sizes.

`config` is main.py's namespace of settings, `flags` the absl FlagValues behind it.
"""

import os

from dcgan.checkpoints import checkpoint_dims, newest_checkpoint, no_checkpoint
from dcgan.errors import UserError
from dcgan.idx import idx_summary
from dcgan.listing import class_names
from dcgan.runs import (
    apply_recorded,
    free_folder,
    newest_run,
    recorded_flags,
    run_name,
    set_folders,
)

SIZES = ['input_height', 'input_width', 'output_height', 'output_width']
# recorded flags that define the model, and those that resume its training as well
MODEL_FLAGS = ['dataset', 'batch_size', 'z_dim', 'z_dist', *SIZES]
MODEL_FLAGS += ['gf_dim', 'df_dim', 'gfc_dim', 'dfc_dim']
TRAINING_FLAGS = ['epoch', 'learning_rate', 'beta1', 'train_size', 'seed', 'data_dir']
TRAINING_FLAGS += ['input_fname_pattern', 'conditional', 'unconditional', 'grayscale']
TRAINING_FLAGS += ['partition', 'bbox', 'crop', 'cache', 'max_to_keep', 'sample_freq']
TRAINING_FLAGS += ['ckpt_freq', 'G_img_sum', 'gif', 'precision', 'xla']


def prepare_training(config, flags):
    """Settle data, sizes and run folder in config; returns (y_dim or None, c_dim)."""
    recorded = {}
    if config.out_name:
        recorded = recorded_flags(os.path.join(config.out_dir, config.out_name))
        apply_recorded(config, flags, recorded, MODEL_FLAGS + TRAINING_FLAGS)
    folder = os.path.join(config.data_dir, config.dataset)
    if config.dataset == 'digits' and not os.path.exists(folder):
        from dcgan.digits import make_digits  # SciPy takes time and memory

        make_digits(config.data_dir)
    labelled = idx_summary(folder)  # (height, width, classes), or None for images
    data_sizes = same_sizes(*labelled[:2]) if labelled else {}
    apply_recorded(config, flags, {**data_sizes, **recorded}, SIZES)
    y_dim = count_classes(config, folder, labelled)
    run_dir = os.path.join(config.out_dir, config.out_name or run_name(config))
    if not config.out_name:
        run_dir = free_folder(run_dir)
    set_folders(config, flags, run_dir)
    return y_dim, 1 if config.grayscale else 3


def count_classes(config, folder, labelled):
    """y_dim: the classes to learn, or None. UserError for flags that do not fit."""
    if config.conditional and config.unconditional:
        raise UserError('--conditional and --unconditional exclude each other')
    if not labelled:
        return len(class_names(folder)) if config.conditional else None
    for name in ('bbox', 'grayscale', 'partition'):
        if getattr(config, name) not in (False, 'all'):
            raise UserError(f'--{name} is for images, and {folder} has IDX files')
    return None if config.unconditional else labelled[2]


def find_run(config, flags):
    """Settle which run to use; returns (y_dim or None, c_dim, path of a checkpoint)."""
    run_dir = os.path.join(config.out_dir, config.out_name)
    if not config.out_name:
        run_dir = newest_run(config)
    set_folders(config, flags, run_dir)
    path = newest_checkpoint(config.checkpoint_dir, config.resume_step)
    if path is None:
        raise no_checkpoint(config.checkpoint_dir)
    y_dim, c_dim = checkpoint_dims(path)
    recorded = recorded_flags(run_dir)
    defaults = same_sizes(28, 28) if y_dim else {}
    apply_recorded(config, flags, {**defaults, **recorded}, MODEL_FLAGS)
    return y_dim, c_dim, path


def same_sizes(height, width):
    """Settings for images that are read and generated in one size."""
    return dict(zip(SIZES, (height, width, height, width)))
