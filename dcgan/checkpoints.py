"""Checkpoints as files: listed, checked, described, removed."""

import contextlib
import glob
import os
import re

import tensorflow.compat.v1 as tf

from dcgan.errors import UserError, short_reason
from dcgan.files import atomic_path, sync_to_disk, write_errors

TRIES = 5  # to read a checkpoint of a run that replaces its checkpoints meanwhile
STEP = re.compile(r'-(\d+)$')
# what a checkpoint raises that is not whole, or has no such tensor
UNREADABLE = (tf.errors.OpError, IndexError, RuntimeError, ValueError)


def checkpoints(checkpoint_dir):
    """Path prefixes of the checkpoints in a folder, the newest first.

    The folder's state file has their order. Where a writer was killed before it came to
    that, its checkpoint is of a later iteration, and younger than the state file. What
    the state does not name otherwise comes last. Folders are not taken from there, so
    that a run can be moved.
    """
    checkpoint_dir = os.path.normpath(checkpoint_dir)
    try:
        state = tf.train.get_checkpoint_state(checkpoint_dir)
    except ValueError:  # torn
        state = None
    paths = (
        [*state.all_model_checkpoint_paths, state.model_checkpoint_path]
        if state
        else []
    )
    named = dict.fromkeys(
        os.path.join(checkpoint_dir, os.path.basename(path))
        for path in reversed(paths)
        if path
    )
    indices = glob.glob(os.path.join(glob.escape(checkpoint_dir), '*-*.index'))
    others = {path.removesuffix('.index') for path in indices} - named.keys()
    others = sorted((p for p in others if STEP.search(p)), key=step_of, reverse=True)
    if not named:
        return others
    newest = step_of(next(iter(named)))
    written = age(os.path.join(checkpoint_dir, 'checkpoint'))
    late = [p for p in others if step_of(p) > newest and age(f'{p}.index') >= written]
    return [*late, *named, *(path for path in others if path not in late)]


def age(path):
    """When a file was last written; 0 where a run has removed it meanwhile."""
    try:
        return os.path.getmtime(path)
    except FileNotFoundError:
        return 0


def newest_checkpoint(checkpoint_dir, step=None):
    """Path prefix of the newest checkpoint that is whole, or of iteration `step`.

    None where there is no checkpoint. Names those that are damaged. Raises UserError
    where that is all of them, or the one asked for, or it is not there.
    """
    for _ in range(TRIES):
        paths = checkpoints(checkpoint_dir)
        if step is not None:
            paths = of_iteration(step, paths, checkpoint_dir)
        there = [path for path in paths if os.path.exists(f'{path}.index')]
        damaged = []
        for path in paths:
            try:
                step_of(path)
                read_through(path)
            except UserError as error:
                damaged.append(error)
                continue
            for error in damaged:
                print(f' [!] {error}, {os.path.basename(path)} is used', flush=True)
            return path
        if all(os.path.exists(f'{path}.index') for path in there):
            break  # otherwise a run under way has replaced them
    if damaged:
        raise damaged[0]
    return None


def of_iteration(step, paths, checkpoint_dir):
    """Those of the checkpoints that are of an iteration. UserError if there is none."""
    steps = [step_of(path) for path in paths]
    if step not in steps:
        raise UserError(
            f'{checkpoint_dir}: has no checkpoint of iteration {step}; '
            f'--resume_step takes one of {sorted(steps)}'
        )
    return [path for path in paths if step_of(path) == step]


def read_through(path):
    """Raise UserError where a checkpoint is not whole; its checksums tell."""
    try:
        reader = tf.train.load_checkpoint(path)
        for name in reader.get_variable_to_shape_map():
            reader.get_tensor(name)
    except UNREADABLE as error:
        raise unreadable(path, error) from error


def holds_progress(path):
    """Whether a checkpoint is of a training run of this project."""
    try:
        return 'training/counter' in checkpoint_shapes(path)
    except UserError:
        return False


def is_end(path):
    """Whether a run had ended, normally or interrupted, with this checkpoint.

    Of the original's, or one that is torn, as a run leaves it that is killed while it
    removes it: no.
    """
    try:
        return bool(tf.train.load_checkpoint(path).get_tensor('training/ended'))
    except UNREADABLE:
        return False


def write_state(checkpoint_dir, paths):
    """Name the checkpoints, oldest first, in the state file, as the Saver does."""
    state = tf.train.generate_checkpoint_state_proto(
        checkpoint_dir,
        paths[-1],
        [*paths],  # a list of its own, which it changes
    )
    path = os.path.join(checkpoint_dir, 'checkpoint')
    with write_errors(path), atomic_path(path) as part:
        with open(part, 'w', encoding='utf-8') as file:
            file.write(str(state))
        sync_to_disk(part)
    sync_to_disk(
        checkpoint_dir
    )  # a power cut leaves these, whatever is removed after this


def discard(path):
    """Remove a checkpoint, or what there is of it; its index last."""
    files = glob.glob(f'{glob.escape(path)}.*')
    for file in sorted(files, key=lambda file: file.endswith('.index')):
        with contextlib.suppress(OSError):
            os.remove(file)


def step_of(path):
    """The iteration at which a checkpoint was written, which its name ends in."""
    match = STEP.search(path)
    if not match:
        raise UserError(f'{path}: the name of a checkpoint has to end in -ITERATION')
    return int(match[1])


def checkpoint_shapes(path):
    """{variable name: shape} of a checkpoint. Raises UserError if it is unreadable."""
    try:
        return tf.train.load_checkpoint(path).get_variable_to_shape_map()
    except (tf.errors.OpError, ValueError) as error:
        raise unreadable(path, error) from error


def checkpoint_dims(path):
    """(y_dim or None, c_dim) of the model in a checkpoint, by its variables' shapes."""
    shapes = checkpoint_shapes(path)
    try:
        if 'generator/g_h4/biases' in shapes:
            return None, shapes['generator/g_h4/biases'][0]
        c_dim = shapes['generator/g_h3/biases'][0]
        return shapes['discriminator/d_h0_conv/biases'][0] - c_dim, c_dim
    except KeyError as error:
        raise UserError(
            f'{path}: not a checkpoint of a DCGAN, it has no {error}'
        ) from error


def unreadable(path, error):
    """The UserError for a checkpoint that TensorFlow could not read."""
    return UserError(f'{path}: this checkpoint cannot be read ({short_reason(error)})')
