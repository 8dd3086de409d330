"""A run: its folder, recorded flags, checkpoints, samples, classes and lock."""

import contextlib
import json
import os
from pathlib import Path
from typing import Any

from dcgan.data.labels import CLASS_FILE, class_names_in
from dcgan.runs.flags_json import read_flags, write_flags
from dcgan.training.checkpoints import index_files
from dcgan.util.errors import UserError, printable
from dcgan.util.files import (
    free_path,
    remove,
    require_writable,
    timestamp,
    write_bytes,
    write_errors,
)
from dcgan.util.lock import lock_run
from dcgan.util.tables import composed


class Run:
    """A run, whose folder need not exist yet; `start` makes it if `is_new`.

    recorded: its flags, from FLAGS.json in its folder or in its checkpoints.
    chosen: {flag of a folder in the run: path that the command line gives it}.
    """

    def __init__(self, folder: str, chosen: dict[str, str], is_new: bool = False):
        self.chosen, self.is_new, self._name = chosen, is_new, folder
        self.folder = free_path(folder, ' - ') if is_new else folder
        self.recorded: dict[str, Any] = read_flags(self.folder)
        self._own, self._locks = self.recorded, {}  # {folder: function that unlocks it}

    @classmethod
    def of_checkpoints(cls, folder: str, chosen: dict[str, str]) -> 'Run':
        """The run whose FLAGS.json leads to this folder of checkpoints, or the folder.

        The run is the folder above, also above the target of a link, or the one that
        left a copy of its FLAGS.json here.
        """
        own = cls(folder, chosen)
        above = [os.path.dirname(path) for path in (folder, os.path.realpath(folder))]
        for path in (*above, str(own.recorded.get('out_dir'))):
            run = cls(path, {})
            if run.recorded and same_folder(run.checkpoint_dir, folder):
                run.chosen, run.recorded = chosen, own.recorded or run.recorded
                return run
        own._own = {}  # FLAGS.json there has the folders of another run
        return own

    @property
    def checkpoint_dir(self) -> str:
        """Where its checkpoints are."""
        return self._path('checkpoint_dir', 'checkpoint')

    @property
    def sample_dir(self) -> str:
        """Where its image grids are."""
        return self._path('sample_dir', 'samples')

    def _path(self, flag, default):
        """Where a folder is, also after the run was moved to another system."""
        default = os.path.join(self.folder, self.chosen.get(flag, default))
        paths = self._own.get(flag), self._own.get('out_dir')
        is_recorded = all(isinstance(path, str) and path for path in paths)
        if flag in self.chosen or not is_recorded:
            return default
        candidates = []
        for folder, out_dir in paths, [path.replace('\\', '/') for path in paths]:
            is_outside = os.path.isabs(folder) != os.path.isabs(out_dir)
            relative = folder if is_outside else os.path.relpath(folder, out_dir)
            if os.path.isabs(folder) and relative.startswith(os.pardir):
                relative = folder  # elsewhere, so it has not moved with the run
            candidates.append(os.path.join(self.folder, relative))
        return next(filter(os.path.isdir, [*candidates, default]), candidates[-1])

    @property
    def _folders(self):
        """Its folder, and the one of its checkpoints, unless that is inside."""
        folder = Path(os.path.realpath(self.checkpoint_dir))
        is_inside = Path(os.path.realpath(self.folder)) in folder.parents
        return [self.folder] if is_inside else [self.folder, self.checkpoint_dir]

    def is_of(self, data_dir: str, dataset: str) -> bool:
        """Whether it was trained on a data set, or does not record on which one.

        A data set whose folder is missing here is recognized by its name.
        """
        folder = str(self.recorded.get('data_dir', data_dir))
        name = str(self.recorded.get('dataset', dataset))
        wanted = os.path.join(data_dir, dataset)
        is_name = os.path.normpath(name) == os.path.normpath(dataset)
        is_folder = same_folder(os.path.join(folder, name), wanted)
        return is_folder or (is_name and not os.path.exists(wanted))

    def settle(self, config) -> None:
        """Set the flags of its folders in config."""
        config.out_dir = self.folder
        config.checkpoint_dir, config.sample_dir = self.checkpoint_dir, self.sample_dir

    def check(self, data_dir: str, dataset: str, is_named: bool) -> None:
        """Raise UserError where its folders cannot be written, or hold another run's.

        If --out_name has named it, its checkpoints may be of another data set.
        """
        folder = os.path.abspath(self.checkpoint_dir)
        if index_files(folder) and len(self._folders) > 1:
            owner = Run.of_checkpoints(folder, {})
            is_owner = same_folder(owner.folder, self.folder)
            is_other = owner.folder != folder and not is_owner
            is_foreign = is_other or not owner.is_of(data_dir, dataset)
            if owner.recorded and is_foreign and not (is_owner and is_named):
                dataset = owner.recorded.get('dataset')
                run = printable(f'{owner.folder}, of dataset {dataset}')
                problem = f'holds checkpoints of the run {run}'
                advice = 'choose another --checkpoint_dir'
                raise UserError(f'{self.checkpoint_dir}: {problem}; {advice}')
        advice = 'choose another --out_dir'
        if os.path.exists(self.folder):
            advice = 'copy the run to another folder, and give that --out_dir'
        require_writable(self.folder, advice)
        require_writable(self.checkpoint_dir, 'choose another --checkpoint_dir')
        require_writable(self.sample_dir, 'choose another --sample_dir')

    def start(self, config, class_names: list[str]) -> None:
        """Make its folders, lock them, and record config and the names of classes.

        Raises UserError where folders cannot be written, if another process is training
        the run, or if it has learned other classes.
        """
        config.label = number_labels(config.label, class_names)
        before = class_names_in(self.folder)
        is_same = '\n'.join(before) == '\n'.join(class_names)  # also of older files
        if before and not is_same and index_files(self.checkpoint_dir):
            learned = printable(', '.join(before))
            now = printable(', '.join(class_names)) or 'numbers'
            problem = f'has learned the classes {learned}, not {now}'
            raise UserError(f'{self.folder}: {problem}; choose another --out_name')
        with write_errors(self.folder, advice='choose another --out_dir'):
            while self.is_new:
                self.folder = free_path(self._name, ' - ')
                with contextlib.suppress(FileExistsError):  # another was faster
                    os.makedirs(self.folder)
                    self.is_new, config.out_name = False, os.path.basename(self.folder)
                    self.settle(config)
            os.makedirs(self.checkpoint_dir, exist_ok=True)
            os.makedirs(self.sample_dir, exist_ok=True)
            self.lock()
            remove(os.path.join(self.folder, 'unusable.txt'))  # of an earlier start
            for folder in self._folders:
                write_flags(folder, vars(config))
                if class_names:
                    content = json.dumps(class_names, indent=0).encode()
                    write_bytes(os.path.join(folder, CLASS_FILE), content)

    def lock(self) -> None:
        """Lock its folder, and a folder of checkpoints elsewhere, if they exist."""
        flags = dict(zip(self._folders, ['--out_name', '--checkpoint_dir']))
        for folder, flag in flags.items():
            path = os.path.realpath(folder)
            if os.path.isdir(path) and path not in self._locks:
                self._locks[path] = lock_run(folder, flag)

    def close(self) -> None:
        """Release its locks."""
        while self._locks:
            self._locks.popitem()[1]()


def same_folder(folder: str, other: str) -> bool:
    """Whether two paths, which need not exist, are one folder."""
    return os.path.realpath(folder) == os.path.realpath(other)


def new_run(config, chosen: dict[str, str]) -> Run:
    """A run that has the name of the original: time, data and sizes."""
    # base names, so that the run is a single folder
    data_dir, dataset = map(os.path.normpath, (config.data_dir, config.dataset))
    name = (
        f'{timestamp()} - {os.path.basename(data_dir)} - {os.path.basename(dataset)} - '
        f'x{config.input_width}.z{config.z_dim}.{config.z_dist}'
        f'.y{config.output_width}.b{config.batch_size}'
    )
    return Run(os.path.join(config.out_dir, name), chosen, is_new=True)


def number_labels(label: str, names: list[str]) -> str:
    """The value of --label with numbers in place of names; a name goes before a number.

    Raises UserError for what is neither, if there are names.
    """
    numbers = {name: str(number) for number, name in enumerate(names)}
    label = composed(label)
    if label in numbers:  # also one with a comma
        return numbers[label]
    labels = [part.strip() for part in label.split(',') if part.strip()]
    known = {*numbers, *numbers.values()}
    unknown = [part for part in labels if part not in known]
    if names and unknown:
        classes = ', '.join(f'{name} ({number})' for name, number in numbers.items())
        problem = f'the classes of this model are {printable(classes)}'
        raise UserError(f'--label {printable(unknown[0])}: {problem}')
    return ','.join(numbers.get(part, part) for part in labels)
