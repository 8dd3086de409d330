"""Write, list, check, read and prune checkpoints.

A checkpoint is known by its path prefix, `folder/name-iteration`. The state file,
`folder/checkpoint`, lists the checkpoints of a folder.
"""

import contextlib
import functools
import glob
import itertools
import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow.compat.v1 as tf

from dcgan.compute.gradients import strip_custom_gradients
from dcgan.util.errors import UserError, short_reason
from dcgan.util.files import (
    atomic_path,
    file_signature,
    glob_files,
    open_file,
    sync_to_disk,
    temporary_path,
    without_wildcards,
    write_bytes,
    write_errors,
    write_json,
)
from dcgan.util.output import print_line

# in a folder of checkpoints, the folder of the best one; in that, what it is best in
BEST, NOTE = 'best', 'best.json'
STEP = re.compile(r'-(\d+)$')
TRIES = 5  # to read a checkpoint of a run that replaces its checkpoints meanwhile
ENDINGS = ('data-00000-of-00001', 'index')
V1_END = bytes.fromhex('57fb808b247547db')  # of a checkpoint of TensorFlow 0.x
# what TensorFlow raises for a corrupt checkpoint, or a variable that it does not hold
READ_ERRORS = (tf.errors.OpError, IndexError, OSError, RuntimeError, ValueError)
WRITE_ERRORS = (OSError, tf.errors.OpError, ValueError)  # the last: no such folder


class CheckpointFolder:
    """A folder with checkpoints, of which max_to_keep are kept, or all if it is 0."""

    def __init__(self, folder: str, max_to_keep: int):
        self.folder, self.max_to_keep = folder, max_to_keep
        self.managed: list[str] = []  # subject to max_to_keep, oldest first
        self.protected: list[str] = []  # neither pruned nor overwritten for now

    def take_over(self, checkpoint: str) -> None:
        """Manage the checkpoints of earlier processes of the run that resumes here.

        `checkpoint`, from which it resumes, counts as the newest. Protects it and the
        last completed training's final one. The original's are never pruned.
        """
        newest_first = list(dict.fromkeys([checkpoint, *checkpoints(self.folder)]))
        write_state(self.folder, newest_first[::-1])
        self.managed = [p for p in reversed(newest_first) if has_training_state(p)]
        states = ((path, training_state(path, 'ended')) for path in newest_first)
        finals = (path for path, state in states if state and state['ended'])
        self.protected = [checkpoint, *itertools.islice(finals, 1)]

    def write(self, sess, saver, name, meta: bytes, extra=0, note=None) -> None:
        """Write the checkpoint `name`, with `meta` as its .meta; prune older ones.

        Keeps max_to_keep + `extra`. Leaves a protected checkpoint as it is: it may be
        the only one. A note, a dict, is written, too. Raises UserError where the folder
        cannot be written; what was saved before is kept.
        """
        path = os.path.join(self.folder, name)
        if path in self.protected:
            return
        with write_errors(path, WRITE_ERRORS):
            os.makedirs(self.folder, exist_ok=True)
            self._write_files(sess, saver, path)
            write_bytes(f'{path}.meta', meta)
            if note:
                write_json(os.path.join(self.folder, NOTE), note)
            managed = [*(other for other in self.managed if other != path), path]
            # delete the oldest, once the disk holds the newest and the state file
            old = managed[: -self.max_to_keep - extra] if self.max_to_keep else []
            old = [path for path in old if path not in self.protected]
            self.managed = [path for path in managed if path not in old]
            write_state(self.folder, self.managed)
            for path in old:
                delete_checkpoint(path)

    def _write_files(self, sess, saver, path):
        temporary = temporary_path(path)
        try:
            saver.save(sess, temporary, write_meta_graph=False, write_state=False)
            for ending in ENDINGS:
                sync_to_disk(f'{temporary}.{ending}')
            with contextlib.suppress(FileNotFoundError):
                os.remove(f'{path}.index')  # never an old index beside new data
            for ending in ENDINGS:
                os.replace(f'{temporary}.{ending}', f'{path}.{ending}')
        finally:
            delete_checkpoint(temporary)


def checkpoint_folders(max_to_keep: int) -> Callable[[str], CheckpointFolder]:
    """A function of a path: its CheckpointFolder, which remembers what was saved."""
    folder = functools.cache(lambda path: CheckpointFolder(path, max_to_keep))
    return lambda path: folder(os.path.normpath(path))


def checkpoints(checkpoint_dir: str) -> list[str]:
    """Path prefixes of the checkpoints in a folder, newest first.

    In the order of the state file, after what a killed process could not list: later
    iterations in newer files. Others that are not listed come last.
    """
    checkpoint_dir = os.path.normpath(checkpoint_dir)
    listed = _listed_checkpoints(checkpoint_dir)
    indices = index_files(checkpoint_dir)
    unlisted = {path.removesuffix('.index') for path in indices} - set(listed)
    unlisted = sorted(filter(STEP.search, unlisted), key=step_of, reverse=True)
    if not listed:
        return unlisted
    state_time = file_signature(os.path.join(checkpoint_dir, 'checkpoint'))[1]
    newer = [path for path in unlisted if step_of(path) > step_of(listed[0])]
    newer = [p for p in newer if file_signature(index_of(p))[1] >= state_time]
    return [*newer, *listed, *(path for path in unlisted if path not in newer)]


def index_files(folder: str) -> list[str]:
    """The file of each checkpoint in a folder that says which variables it holds.

    It is PREFIX.index or, of a checkpoint of TensorFlow 0.x, PREFIX itself.
    """
    others = filter(STEP.search, glob_files(folder, '*-*'))
    return glob_files(folder, '*.index') + [path for path in others if _is_v1(path)]


def index_of(path: str) -> str:
    """The file of index_files of a checkpoint, or '' if it is not there."""
    index = f'{path}.index'
    return index if os.path.exists(index) else path if _is_v1(path) else ''


def _is_v1(path):
    with contextlib.suppress(OSError), open_file(path) as file:
        if os.path.exists(f'{path}.meta'):
            return True
        file.seek(-len(V1_END), os.SEEK_END)
        return file.read() == V1_END
    return False


def _is_whole(path):
    """Whether a checkpoint has its data and its index. The data are deleted first."""
    return _is_v1(path) or len(glob.glob(f'{glob.escape(path)}.[di]*')) > 1


def _listed_checkpoints(checkpoint_dir):
    """What the state file lists, newest first; not its folders: a run can be moved."""
    with contextlib.suppress(OSError, ValueError):  # the state file is corrupt
        open_file(os.path.join(checkpoint_dir, 'checkpoint')).close()
        if state := tf.train.get_checkpoint_state(checkpoint_dir):
            paths = [*state.all_model_checkpoint_paths, state.model_checkpoint_path]
            names = [re.split(r'[/\\]', path)[-1] for path in reversed(paths) if path]
            return [os.path.join(checkpoint_dir, name) for name in dict.fromkeys(names)]
    return []


def newest_checkpoint(folder: str, step=None, tries=TRIES) -> str | None:
    """Path prefix of the newest complete checkpoint, or of the one of iteration `step`.

    If `step` is BEST, of the best one, which is also the last resort without a `step`.
    None where there is none. Prints which ones are corrupt. Raises UserError if all
    are, or if the one of `step` is or does not exist.
    """
    best, listed, failures = os.path.join(folder, BEST), checkpoints(folder), []
    if step == BEST and index_files(best):
        return newest_checkpoint(best)
    if step is None:
        paths = [*listed, *checkpoints(best)]
    else:
        steps = sorted(map(step_of, listed))
        if str(step) not in map(str, steps):
            which = BEST if step == BEST else f'of iteration {step}'
            problem = f'{folder}: has no checkpoint {which}'
            advice = f'{steps} or, after --train with --evaluate_freq N, {BEST}'
            raise UserError(f'{problem}; --resume_step takes one of {advice}')
        paths = [path for path in listed if step_of(path) == int(step)]
    for path in paths:
        try:
            step_of(path)
            with reading(path) as reader:  # all of it, by the checksums in it
                for name in reader.get_variable_to_shape_map():
                    reader.get_tensor(name)
        except UserError as error:
            failures.append(error)
            continue
        for error in failures:
            print_line(f' [!] {error}; using {os.path.basename(path)}')
        return path
    # a run that is training lists a new one before it deletes an old one
    if checkpoints(folder) != listed and tries > 1:
        return newest_checkpoint(folder, step, tries - 1)
    if failures:
        raise failures[0]
    return None


def usable_checkpoint(checkpoint_dir: str, step: int | str | None = None) -> str:
    """What newest_checkpoint finds. Raises UserError where it finds none."""
    if path := newest_checkpoint(checkpoint_dir, step):
        return path
    raise no_checkpoint(checkpoint_dir)


def read_usable(read: Callable[[str], Any], folder: str, step=None, path=None) -> Any:
    """What `read` returns for `path`, or for the usable checkpoint of a folder.

    Where that raises UserError, because a run that is training has deleted that
    checkpoint meanwhile, reads the one that is usable by then.
    """
    path = path or usable_checkpoint(folder, step)
    for _ in range(TRIES - 1):
        try:
            return read(path)
        except UserError:
            if _is_whole(path):
                raise
            path = usable_checkpoint(folder, step)
    return read(path)


def folder_inside(folder: str) -> str:
    """A folder with checkpoints in a folder, as versions to July 2018 made; or ''."""
    folders = sorted(glob.glob(os.path.join(glob.escape(folder), '*', '')))
    return os.path.dirname(next(filter(index_files, folders), ''))


def no_checkpoint(checkpoint_dir: str) -> UserError:
    """The error for a folder without a checkpoint. It tells what is there instead."""
    names = sorted(map(os.path.basename, index_files(checkpoint_dir)))
    problem = 'no checkpoint found; '
    if names:
        rule = 'the name of a checkpoint has to end in -ITERATION, as in model-9.index'
        problem = f'has {", ".join(names)}, but {rule}; rename all of its files'
    elif inner := folder_inside(checkpoint_dir):
        problem += f'there are some in {inner}'
    else:
        problem += 'add --train to train this run, or choose another with --out_name'
    return UserError(f'{checkpoint_dir}: {problem}')


@contextlib.contextmanager
def reading(path: str) -> Iterator:
    """Yield a function that reads by TensorFlow's reader; UserError if that fails."""
    try:
        for file in glob.glob(f'{glob.escape(path)}.[di]*'):
            open_file(file).close()  # TensorFlow would wait for a pipe
        with without_wildcards(path) as clean:
            yield tf.train.load_checkpoint(clean)
    except READ_ERRORS as error:
        reason = short_reason(error)
        raise UserError(f'{path}: this checkpoint cannot be read ({reason})') from error


def training_state(path: str, *names: str) -> dict[str, np.ndarray] | None:
    """Variables of a TrainingState in a checkpoint; None for the original's."""
    with contextlib.suppress(UserError), reading(path) as reader:
        return {name: reader.get_tensor(f'training/{name}') for name in names}
    return None


def has_training_state(path: str) -> bool:
    """True for checkpoints of this project's training, False for the original's."""
    with contextlib.suppress(UserError):  # by its index: the data may be deleted
        return 'training/counter' in checkpoint_shapes(path)
    return False


def completed_epochs(path: str, train_size: float) -> int | None:
    """How many epochs, of train_size images at most, a training of ours completed."""
    state = training_state(path, 'epoch', 'batch', 'order', 'sample_z')
    return None if state is None else next_batch(state, train_size)[0]


def next_batch(stored: dict[str, np.ndarray], train_size: float) -> tuple[int, int]:
    """(epoch, batch in it) with which a training resumes whose state is stored."""
    epoch, batch = int(stored['epoch']), int(stored['batch'])
    images = min(stored['order'].size, train_size)
    # older versions stored the end of an epoch, not the beginning of the next one
    if batch >= images // max(1, len(stored['sample_z'])):
        return epoch + 1, 0
    return epoch, batch


def write_state(checkpoint_dir: str, paths: list[str]) -> None:
    """List the checkpoints, oldest first, in the state file, as the Saver does."""
    # on disk, too: a power cut must not undo it after older checkpoints are deleted
    proto = tf.train.generate_checkpoint_state_proto
    state = proto(checkpoint_dir, paths[-1], [*paths])  # a copy: it changes the list
    path = os.path.join(checkpoint_dir, 'checkpoint')
    with write_errors(path), atomic_path(path) as temporary:
        Path(temporary).write_text(str(state), encoding='utf-8')
        sync_to_disk(temporary)
    sync_to_disk(checkpoint_dir)


def delete_checkpoint(path: str) -> None:
    """Delete the files of a checkpoint that exist; its index last."""
    files = glob.glob(f'{glob.escape(path)}.*')
    for file in sorted(files, key=lambda file: file.endswith('.index')):
        with contextlib.suppress(OSError):
            os.remove(file)


def step_of(path: str) -> int:
    """The iteration of a checkpoint, by its name. Raises UserError if it has none."""
    if match := STEP.search(path):
        return int(match[1])
    raise UserError(f'{path}: the name of a checkpoint has to end in -ITERATION')


def checkpoint_shapes(path: str) -> dict[str, list[int]]:
    """{variable name: shape} of a checkpoint. Raises UserError if it is unreadable."""
    with reading(path) as reader:
        return reader.get_variable_to_shape_map()


def set_variables(sess, variables: list, path: str, names: dict | None = None) -> None:
    """Set variables from a checkpoint, by `names`. UserError if it lacks one."""
    feed = {}
    with reading(path) as reader:
        for variable in variables:
            name = variable.op.name
            value = reader.get_tensor((names or {}).get(name, name))
            value = np.broadcast_to(value, variable.shape.as_list())
            feed[variable.initializer.inputs[1]] = value
        sess.run([variable.initializer for variable in variables], feed)


def restore(sess: tf.Session, saver: tf.train.Saver, path: str) -> None:
    """Restore all of a training: less memory than set_variables takes, if it trains."""
    with reading(path), without_wildcards(path) as clean:
        saver.restore(sess, clean)
    print_line(f' [*] Read {path}')


def meta_graph(saver: tf.train.Saver) -> bytes:
    """The graph as a serialized MetaGraphDef: large, so make it once for many uses."""
    meta = saver.export_meta_graph()
    strip_custom_gradients(meta.graph_def)
    return meta.SerializeToString()
