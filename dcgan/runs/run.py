"""A run: its folder, recorded flags, checkpoints, samples, classes and lock."""

import itertools
import os
from pathlib import Path
from typing import Any

from dcgan.data.labels import find_labels
from dcgan.runs.flags_json import read_flags, recorded_folder, write_copy, write_flags
from dcgan.runs.lock import RunLock
from dcgan.util.errors import UserError, printable
from dcgan.util.files import (
    remove,
    require_writable,
    timestamp,
    write_bytes,
)

CLASS_FILE = 'classes.txt'  # in a run folder, the names of classes, one in each line


class Run:
    """A run. Its folder need not exist yet.

    folder    path of the run folder
    recorded  its recorded flags, by default what FLAGS.json in it holds
    chosen    {flag of a folder in the run: path that the command line gives it}
    is_new    whether the folder is to be made; `folder` or the next name that is free
    """

    def __init__(
        self,
        folder: str,
        recorded: dict[str, Any] | None = None,
        chosen: dict[str, str] | None = None,
        is_new: bool = False,
    ):
        self.chosen, self.is_new, self._name = chosen or {}, is_new, folder
        self.folder = _free_folder(folder) if is_new else folder
        self._own = read_flags(self.folder)
        self.recorded = self._own if recorded is None else recorded
        self._lock = RunLock()

    @classmethod
    def of_checkpoints(cls, folder: str, chosen: dict[str, str] | None = None) -> 'Run':
        """The run to which a folder of checkpoints belongs.

        It is the run whose FLAGS.json leads to this folder: the folder above, also
        above the target of a link, or the one that left a copy of its FLAGS.json here.
        Otherwise the folder itself is the run.
        """
        recorded = read_flags(folder)
        above = [os.path.dirname(path) for path in (folder, os.path.realpath(folder))]
        for path in (*above, recorded.get('out_dir')):
            run = cls(path, None, chosen) if isinstance(path, str) else None
            if run and run.recorded and same_folder(run.recorded_checkpoints(), folder):
                run.recorded = recorded or run.recorded
                return run
        return cls(folder, recorded, chosen)

    def recorded_checkpoints(self, default: str = 'checkpoint') -> str:
        """Where FLAGS.json says that the checkpoints are."""
        return recorded_folder(self._own, self.folder, 'checkpoint_dir', default)

    @property
    def dims(self) -> tuple[int | None, int] | None:
        """(y_dim, c_dim), which are recorded of networks that a user has written."""
        recorded = self.recorded
        return (recorded['y_dim'], recorded['c_dim']) if 'c_dim' in recorded else None

    @property
    def checkpoint_dir(self) -> str:
        """The folder of the checkpoints."""
        if 'checkpoint_dir' in self.chosen:
            return os.path.join(self.folder, self.chosen['checkpoint_dir'])
        return self.recorded_checkpoints()

    @property
    def sample_dir(self) -> str:
        """The folder of images."""
        if 'sample_dir' in self.chosen:
            return os.path.join(self.folder, self.chosen['sample_dir'])
        # FLAGS.json that was copied to checkpoints has the folders of another run
        is_copy = 'checkpoint_dir' in self.chosen and self.is_in_checkpoints
        own = {} if is_copy else self._own
        return recorded_folder(own, self.folder, 'sample_dir', 'samples')

    @property
    def is_in_checkpoints(self) -> bool:
        """Whether the folder of its checkpoints is the run folder."""
        return same_folder(self.checkpoint_dir, self.folder)

    @property
    def has_checkpoints_inside(self) -> bool:
        """Whether its checkpoints are in a folder inside of the run folder."""
        is_in = is_inside(self.checkpoint_dir, self.folder)
        return is_in and not self.is_in_checkpoints

    def is_of(self, data_dir: str, dataset: str) -> bool:
        """Whether it was trained on a data set, by its recorded flags; or unknown.

        The data set is the same folder or, where that does not exist here, has the
        same name.
        """
        folder = self.recorded.get('data_dir', data_dir)
        name = str(self.recorded.get('dataset', dataset))
        wanted = _data_folder(data_dir, dataset)
        is_name = os.path.normpath(name) == os.path.normpath(dataset)
        is_folder = _data_folder(str(folder), name) == wanted
        return is_folder or (is_name and not os.path.exists(wanted))

    def settle(self, config) -> None:
        """Set the flags of its folders in config."""
        config.out_dir = self.folder
        config.checkpoint_dir, config.sample_dir = self.checkpoint_dir, self.sample_dir

    def check(self, data_dir: str, dataset: str, is_named: bool) -> None:
        """Raise UserError where it cannot be trained in its folders.

        They have to be writable, and checkpoints outside of the run folder have to be
        its own. `is_named` says that --out_name has named it: then it may own them.
        """
        folder = os.path.abspath(self.checkpoint_dir)
        if has_checkpoints(folder) and not self.has_checkpoints_inside:
            owner = Run.of_checkpoints(folder)
            is_owner = same_folder(owner.folder, self.folder)
            is_other = owner.folder != folder and not is_owner
            is_foreign = is_other or not owner.is_of(data_dir, dataset)
            if owner.recorded and is_foreign and not (is_owner and is_named):
                raise UserError(
                    f'{self.checkpoint_dir}: holds checkpoints of the run '
                    f'{printable(owner.folder)}, of dataset '
                    f'{printable(owner.recorded.get("dataset"))}; choose another '
                    '--checkpoint_dir'
                )
        way_out = 'choose another --out_dir'
        if os.path.exists(self.folder):
            way_out = 'copy the run to another folder, and give that --out_dir'
        require_writable(self.folder, way_out)
        require_writable(self.checkpoint_dir, 'choose another --checkpoint_dir')
        require_writable(self.sample_dir, 'choose another --sample_dir')

    def start(self, config, class_names: list[str]) -> None:
        """Make its folders, lock them, and record config and the names of classes.

        A new run gets a new folder, even if another run starts in the same second. A
        folder of checkpoints elsewhere gets a copy of FLAGS.json. Raises UserError
        where the folders cannot be written, if another process is training the run, or
        if its classes were others.
        """
        config.label = number_labels(config.label, class_names)
        before = class_names_in(self.folder)
        if before and before != class_names and has_checkpoints(self.checkpoint_dir):
            both = before, class_names
            learned, now = (printable(', '.join(n)) or 'numbers' for n in both)
            raise UserError(
                f'{self.folder}: has learned the classes {learned}, not {now}; choose '
                'another --out_name'
            )
        try:
            if self.is_new:
                self._make(config)
            os.makedirs(self.checkpoint_dir, exist_ok=True)
            os.makedirs(self.sample_dir, exist_ok=True)
            self.lock()
            remove(os.path.join(self.folder, 'unusable.txt'))  # of an earlier start
            self._record(config, class_names)
        except OSError as error:
            raise UserError(
                f'{error.filename or self.folder}: cannot be written '
                f'({error.strerror}); choose another --out_dir'
            ) from error

    def _make(self, config):
        os.makedirs(os.path.dirname(self.folder), exist_ok=True)
        while self.is_new:
            try:
                os.mkdir(self.folder)
                self.is_new = False
            except FileExistsError:  # another process was faster
                self.folder = _free_folder(self._name)
        config.out_name = os.path.basename(self.folder)
        self.settle(config)

    def _record(self, config, class_names):
        flags, folders = vars(config), [self.folder]
        write_flags(self.folder, flags)
        if not self.has_checkpoints_inside:
            if labels := flags['labels']:
                data_folder = os.path.join(config.data_dir, config.dataset)
                labels = os.path.abspath(find_labels(labels, data_folder))
            write_copy(self.checkpoint_dir, {**flags, 'labels': labels})
            folders.append(self.checkpoint_dir)
        for folder in folders if class_names else []:
            content = os.fsencode('\n'.join(class_names))
            write_bytes(os.path.join(folder, CLASS_FILE), content)

    def lock(self) -> None:
        """Lock its folder, and a folder of checkpoints elsewhere, if they exist."""
        flag = '--checkpoint_dir' if self.is_in_checkpoints else '--out_name'
        self._lock.add(self.folder, flag)
        if not is_inside(self.checkpoint_dir, self.folder):
            self._lock.add(self.checkpoint_dir, '--checkpoint_dir')

    def close(self) -> None:
        """Release its lock."""
        self._lock.close()


def has_checkpoints(folder: str) -> bool:
    """Whether a folder, which need not exist, holds checkpoints."""
    return any(Path(folder).glob('*.index'))


def same_folder(folder: str, other: str) -> bool:
    """Whether two paths, which need not exist, are one folder."""
    return os.path.realpath(folder) == os.path.realpath(other)


def is_inside(folder, parent):
    """Whether a folder is another one, or lies in it."""
    return Path(os.path.realpath(folder)).is_relative_to(os.path.realpath(parent))


def _data_folder(data_dir, dataset):
    """The one path of a data set, however it is spelled and linked."""
    return os.path.realpath(os.path.join(data_dir, dataset))


def new_run(config, chosen: dict[str, str]) -> Run:
    """A run that has the name of the original: time, data and sizes."""
    # base names, so that the run is a single folder
    data_name, dataset = (
        os.path.basename(os.path.normpath(path))
        for path in (config.data_dir, config.dataset)
    )
    name = (
        f'{timestamp()} - {data_name} - {dataset} - x{config.input_width}'
        f'.z{config.z_dim}.{config.z_dist}'
        f'.y{config.output_width}.b{config.batch_size}'
    )
    return Run(os.path.join(config.out_dir, name), {}, chosen, is_new=True)


def _free_folder(path: str) -> str:
    """`path`, or the first of `path - 2`, `path - 3`, ... that does not exist."""
    numbered = (f'{path} - {number}' for number in itertools.count(2))
    return next(p for p in itertools.chain([path], numbered) if not os.path.lexists(p))


def class_names_in(run_dir: str) -> list[str]:
    """The names of the classes that a run has learned; [] if they have only numbers."""
    try:
        with open(os.path.join(run_dir, CLASS_FILE), 'rb') as file:
            return os.fsdecode(file.read()).splitlines()
    except OSError:
        return []


def number_labels(label: str, names: list[str]) -> str:
    """The value of --label with numbers in place of names of classes.

    A name goes before a number: of classes named 1 and 2, 1 is the first one.
    Raises UserError for what is neither, if there are names.
    """
    numbers = {name: str(number) for number, name in enumerate(names)}
    if label in numbers:  # also one with a comma
        return numbers[label]
    labels = [part.strip() for part in label.split(',') if part.strip()]
    known = {*numbers, *numbers.values()}
    unknown = [part for part in labels if part not in known]
    if names and unknown:
        classes = ', '.join(f'{name} ({number})' for name, number in numbers.items())
        raise UserError(
            f'--label {printable(unknown[0])}: the classes of this model are '
            f'{printable(classes)}'
        )
    return ','.join(numbers.get(part, part) for part in labels)
