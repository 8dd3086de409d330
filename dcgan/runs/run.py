"""Run folders: name, make and lock one, read its recorded flags, find the newest one.

`config` is main.py's namespace of settings, `flags` the absl FlagValues behind it.
"""

import contextlib
import itertools
import json
import os
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import filelock

from dcgan.data.labels import find_labels
from dcgan.util.errors import UserError, printable
from dcgan.util.files import (
    expand_path,
    glob_files,
    lock_folder,
    remove,
    timestamp,
    write_bytes,
    write_json,
)

CLASS_FILE = 'classes.txt'  # in a run folder, the names of classes, one in each line


class RunLocks:
    """Locks of the folders of a run, until close() or the end of this process.

    When the process ends, even if it is killed, the system releases them. Where a file
    system has no locks, a warning is printed and the run continues without one.
    """

    def __init__(self):
        self._stack, self._locked = contextlib.ExitStack(), set()

    def add(self, folder: str, flag: str) -> None:
        """Lock a folder, if it exists. `flag` is the flag that chooses another.

        Raises UserError, which names the owner of the lock, if another process holds
        it.
        """
        path = os.path.realpath(folder)
        if path in self._locked or not os.path.isdir(path):
            return
        owner_path = os.path.join(path, 'lock.owner')
        try:
            self._stack.callback(lock_folder(path))
        except filelock.Timeout:
            owner = 'another process'
            with contextlib.suppress(OSError), open(owner_path) as file:
                owner = printable(file.read()) or owner
            raise UserError(
                f'{folder}: {owner} is training this run; wait for it to end, stop it, '
                f'or choose another {flag}'
            ) from None
        except OSError as error:
            print(
                f' [!] {folder}: cannot be locked ({error.strerror}); do not train '
                'this run in two processes at once',
                flush=True,
            )
        self._locked.add(path)
        with contextlib.suppress(OSError), open(owner_path, 'w') as file:
            file.write(f'process {os.getpid()} on {socket.gethostname()}')

    def close(self) -> None:
        """Release the locks."""
        self._stack.close()
        self._locked.clear()


def recorded_flags(run_dir: str) -> dict[str, Any]:
    """Read FLAGS.json of a run folder; the result is empty if there is no such file.

    Raises UserError if the file cannot be read or does not hold flags.
    """
    path = os.path.join(run_dir, 'FLAGS.json')
    try:
        with open(path, encoding='utf-8') as file:
            flags = json.load(file)
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except (OSError, ValueError):
        flags = None
    if not isinstance(flags, dict):
        raise UserError(f'{path}: does not hold flags of a run; fix it or remove it')
    return flags


def recorded_folder(
    recorded: dict[str, Any], run_dir: str, name: str, default: str
) -> str:
    """Return where a folder of the run that lies at run_dir is.

    `name` is the flag of that folder, such as checkpoint_dir. The recorded flags hold
    its path and that of the run folder at the time of the training. The way from one to
    the other still holds when the run folder has been moved or renamed, also to another
    system. `default` is the name of the folder where the flags lead to none.
    """
    default = os.path.join(run_dir, default)
    paths = recorded.get(name), recorded.get('out_dir')
    if not all(isinstance(path, str) for path in paths):
        return default
    moved = moved_folder(*paths, run_dir)
    from_windows = moved_folder(*(p.replace('\\', '/') for p in paths), run_dir)
    candidates = [moved, from_windows, default]
    return next(filter(os.path.isdir, candidates), from_windows)


def moved_folder(folder: str, out_dir: str, run_dir: str) -> str:
    """Where a folder is, now that the run folder out_dir is at run_dir."""
    if os.path.isabs(folder) != os.path.isabs(out_dir):
        return os.path.join(run_dir, folder)
    relative = os.path.relpath(folder, out_dir)
    if os.path.isabs(folder) and relative.startswith(os.pardir):
        return folder  # elsewhere, so it has not moved with the run
    return os.path.join(run_dir, relative)


def own_checkpoints(config, flags) -> str:
    """The path of --checkpoint_dir where it is a folder of its own; '' if it is none.

    It is one if it holds checkpoints and is absolute, or lies in the run of --out_name,
    or where a model is used without --out_name. Otherwise it is a name in the run.
    """
    folder = expand_path(flags['checkpoint_dir'].value)
    if not flags['checkpoint_dir'].present or not glob_files(folder, '*.index'):
        return ''
    run_dir = os.path.join(config.out_dir, config.out_name)
    is_in_run = config.out_name and is_inside(folder, run_dir)
    is_used = not config.train and not config.out_name
    is_own = os.path.isabs(folder) or is_in_run or is_used
    return os.path.abspath(folder) if is_own else ''


def run_of(folder: str) -> tuple[str, dict[str, Any]]:
    """(run folder, its recorded flags) of a folder that holds checkpoints.

    The run is that whose FLAGS.json leads to this folder: the folder above, also that
    of a link's target, or the one that left a copy of its FLAGS.json here. Otherwise
    the folder itself is the run.
    """
    recorded = recorded_flags(folder)
    parents = [os.path.dirname(path) for path in (folder, os.path.realpath(folder))]
    for run_dir in (*parents, recorded.get('out_dir')):
        flags = recorded_flags(run_dir) if isinstance(run_dir, str) else {}
        path = recorded_folder(flags, run_dir or '', 'checkpoint_dir', 'checkpoint')
        if flags and same_folder(path, folder):
            return run_dir, recorded or flags
    return folder, recorded


def given_run(config, flags) -> tuple[str, dict[str, Any]]:
    """(run folder, its recorded flags) that the command line names; ('', {}) if none.

    By --out_name or by own_checkpoints.
    """
    folder = own_checkpoints(config, flags)
    owner, recorded = run_of(folder) if folder else ('', {})
    if config.out_name:
        named = os.path.join(config.out_dir, config.out_name)
        of_named = recorded_flags(named)
        # the same command, given from another working folder
        is_owner = recorded and owner != folder and not of_named
        if is_owner and os.path.basename(owner) == os.path.basename(named):
            return owner, recorded
        return named, of_named or recorded
    if config.train and not recorded:
        return '', {}  # a new run, from these checkpoints
    return owner, recorded


def check_owner(config, flags) -> None:
    """Raise UserError where training would continue checkpoints of another run.

    For checkpoints outside of the run folder, when config is settled.
    """
    folder = os.path.abspath(config.checkpoint_dir)
    if not has_own_folder(config) or not glob_files(folder, '*.index'):
        return
    owner, recorded = run_of(folder)
    is_owner = same_folder(owner, config.out_dir)
    if not recorded or (is_owner and flags['out_name'].present):
        return
    is_other = owner != folder and not is_owner
    if is_other or not is_of_dataset(config, recorded):
        raise UserError(
            f'{config.checkpoint_dir}: holds checkpoints of the run '
            f'{printable(owner)}, of dataset {printable(recorded.get("dataset"))}; '
            'choose another --checkpoint_dir'
        )


def same_folder(folder: str, other: str) -> bool:
    """Whether two paths, which need not exist, are one folder."""
    return os.path.realpath(folder) == os.path.realpath(other)


def is_inside(folder: str, parent: str) -> bool:
    """Whether a folder is another one, or lies in it."""
    return Path(os.path.realpath(folder)).is_relative_to(os.path.realpath(parent))


def has_own_folder(config) -> bool:
    """Whether config's checkpoints are not in a folder inside of its run folder."""
    folder, run_dir = config.checkpoint_dir, config.out_dir
    return same_folder(folder, run_dir) or not is_inside(folder, run_dir)


def is_of_dataset(config, recorded: dict[str, Any]) -> bool:
    """Whether recorded flags are those of a run on config's data set.

    That is the same folder or, where config's does not exist here, the same name; or
    unknown.
    """
    data_dir = recorded.get('data_dir', config.data_dir)
    name = str(recorded.get('dataset', config.dataset))
    wanted = data_folder(config.data_dir, config.dataset)
    is_name = os.path.normpath(name) == os.path.normpath(config.dataset)
    is_folder = data_folder(str(data_dir), name) == wanted
    return is_folder or (is_name and not os.path.exists(wanted))


def is_locked(run_dir: str) -> bool:
    """Whether another process is training a run."""
    try:
        lock_folder(run_dir)()
    except filelock.Timeout:
        return True
    except OSError:
        pass
    return False


def newest_run(config) -> str:
    """Return the run folder under config.out_dir that has the newest checkpoint.

    Only runs that were trained on config.dataset are considered. Raises UserError,
    which names the data sets that have runs, if there is none.
    """
    runs = list(trained_runs(config.out_dir, config.checkpoint_dir))
    of_folder, of_name = [], []  # runs on the same folder; on one of the same name
    for time, run_dir, recorded in runs:
        if is_of_dataset(config, recorded):
            of_folder.append((time, run_dir))
        if os.path.normpath(recorded['dataset']) == os.path.normpath(config.dataset):
            of_name.append((time, run_dir))
    if of_folder or of_name:
        return max(of_folder or of_name)[1]
    names = sorted({recorded['dataset'] for _, _, recorded in runs})
    there = f'there are runs of {printable(", ".join(names))}; ' if names else ''
    raise UserError(
        f'{config.out_dir}: no trained run of dataset {config.dataset} found; {there}'
        'train one with --train, or choose one with --out_dir and --out_name'
    )


def trained_runs(out_dir: str, checkpoint_dir: str) -> Iterator[tuple[int, str, dict]]:
    """Yield (time of the newest checkpoint in ns, run folder, its recorded flags).

    Of all runs under out_dir, in nested folders too. `checkpoint_dir` is the name of
    the checkpoint folder in a run folder that has no record of it.
    """
    for run_dir, _, names in os.walk(out_dir):
        if 'FLAGS.json' not in names:
            continue
        # a run with a corrupt FLAGS.json is skipped
        with contextlib.suppress(UserError):
            recorded = recorded_flags(run_dir)
            if not isinstance(recorded.get('dataset'), str):
                continue
            folder = recorded_folder(
                recorded, run_dir, 'checkpoint_dir', checkpoint_dir
            )
            if same_folder(folder, run_dir):  # a copy for a folder of its own
                continue
            times = [0]
            for index in glob_files(folder, '*.index'):
                # another process may prune this checkpoint now
                with contextlib.suppress(FileNotFoundError):
                    times.append(os.stat(index).st_mtime_ns)
            if max(times):
                yield max(times), run_dir, recorded


def data_folder(data_dir: str, dataset: str) -> str:
    """The one path of a data set, however it is spelled and linked."""
    return os.path.realpath(os.path.join(data_dir, dataset))


def check_names(config) -> None:
    """Reduce config.out_name to a path in config.out_dir; UserError if that is a file.

    It may be given as a path to the run, such as the shell completes: out/NAME/.
    """
    if os.path.isfile(config.out_dir):
        raise UserError(f'{config.out_dir}: is a file; choose another --out_dir')
    config.out_name = _name_in(config.out_dir, config.out_name)


def _name_in(out_dir, out_name):
    name = os.path.normpath(out_name) if out_name else ''
    is_path = name != os.path.basename(name) and os.path.isdir(name)
    if is_path and not os.path.isdir(os.path.join(out_dir, name)):
        relative = os.path.relpath(name, out_dir)
        return name if relative.startswith(os.pardir) else relative
    return name


def run_name(config) -> str:
    """The name that the original gives to a run: time, data and sizes."""
    # base names, so that the run is a single folder
    data_name, dataset = (
        os.path.basename(os.path.normpath(path))
        for path in (config.data_dir, config.dataset)
    )
    return (
        f'{timestamp()} - {data_name} - {dataset} - x{config.input_width}'
        f'.z{config.z_dim}.{config.z_dist}'
        f'.y{config.output_width}.b{config.batch_size}'
    )


def free_folder(path: str) -> str:
    """`path`, or the first of `path - 2`, `path - 3`, ... that does not exist."""
    numbered = (f'{path} - {number}' for number in itertools.count(2))
    return next(p for p in itertools.chain([path], numbered) if not os.path.lexists(p))


def set_folders(config, flags, run_dir: str) -> None:
    """Set the folders of a run in config: under run_dir, or where they already are."""
    recorded, own = recorded_flags(run_dir), own_checkpoints(config, flags)
    if own and same_folder(own, run_dir):
        recorded = {}  # copied here: its folders are those of another run
    for name in ('checkpoint_dir', 'sample_dir'):
        folder = expand_path(flags[name].value)
        if flags[name].present:
            folder = os.path.join(run_dir, folder)
        else:
            folder = recorded_folder(recorded, run_dir, name, folder)
        setattr(config, name, folder)
    config.checkpoint_dir = own or config.checkpoint_dir
    config.out_dir = run_dir


def apply_recorded(config, flags, settings: dict[str, Any], names: list[str]) -> None:
    """Set recorded settings in config, except where the command line has the flag.

    A height on the command line overrides the recorded width as well. Raises UserError
    for a value that the flag cannot have.
    """
    for name in settings.keys() & names:
        controlling_flags = {name, name.replace('width', 'height')}
        if not any(flags[flag].present for flag in controlling_flags):
            setattr(config, name, _parse_recorded(flags[name], settings[name]))
    config.input_width = config.input_width or config.input_height
    config.output_width = config.output_width or config.output_height


def has_settings(config, flags, recorded: dict[str, Any], names: list[str]) -> bool:
    """Whether the recorded flags of a run, or their defaults, are those of config."""
    with contextlib.suppress(UserError):
        values = [
            _parse_recorded(flags[name], recorded.get(name, flags[name].default))
            for name in names
        ]
        return values == [getattr(config, name) for name in names]
    return False


def _parse_recorded(flag, value):
    if value is None and flag.default is None:
        return None
    if flag.name == 'data_dir' and not os.path.exists(str(value)):
        value = str(value).replace('\\', '/')  # from Windows
    try:
        return flag.parser.parse(value)
    except (TypeError, ValueError) as error:
        raise UserError(
            f'FLAGS.json of the run: {flag.name} {value!r}: {error}; fix it'
        ) from error


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


def start_run(config, flags, dcgan, locks: RunLocks) -> None:
    """Make the folders and FLAGS.json of a run, and lock them.

    A run without a name of its own gets a new folder, even if another run starts in
    the same second. A checkpoint folder elsewhere gets a copy of FLAGS.json. Raises
    UserError where the folders cannot be written, if another process is training the
    run, or if its classes were others.
    """
    names = dcgan.data.class_names or []
    config.label = number_labels(config.label, names)
    before = class_names_in(config.out_dir)
    if before and before != names and glob_files(config.checkpoint_dir, '*.index'):
        learned, now = (printable(', '.join(n)) or 'numbers' for n in (before, names))
        raise UserError(
            f'{config.out_dir}: has learned the classes {learned}, not {now}; choose '
            'another --out_name'
        )
    try:
        while not config.out_name:
            parent = os.path.dirname(config.out_dir)
            os.makedirs(parent, exist_ok=True)
            try:
                os.mkdir(config.out_dir)
                config.out_name = os.path.basename(config.out_dir)
            except FileExistsError:  # another process was faster
                folder = free_folder(os.path.join(parent, run_name(config)))
                set_folders(config, flags, folder)
        dcgan.out_dir, dcgan.checkpoint_dir = config.out_dir, config.checkpoint_dir
        dcgan.sample_dir = config.sample_dir
        os.makedirs(config.checkpoint_dir, exist_ok=True)
        os.makedirs(config.sample_dir, exist_ok=True)
        lock_run(config, locks)
        remove(os.path.join(config.out_dir, 'unusable.txt'))  # of an earlier start
        _record(config, config.out_dir, names, vars(config))
        if has_own_folder(config):
            _record(config, config.checkpoint_dir, names, _with_absolute_paths(config))
    except OSError as error:
        raise UserError(
            f'{error.filename or config.out_dir}: cannot be written '
            f'({error.strerror}); choose another --out_dir'
        ) from error


def _record(config, folder, names, flags):
    """Write FLAGS.json and, if classes have names, classes.txt."""
    write_json(os.path.join(folder, 'FLAGS.json'), flags)
    if names:
        write_bytes(os.path.join(folder, CLASS_FILE), os.fsencode('\n'.join(names)))


def _with_absolute_paths(config):
    paths = ['out_dir', 'checkpoint_dir', 'sample_dir', 'data_dir']
    flags = {**vars(config)}
    for name in paths:
        flags[name] = os.path.abspath(flags[name])
    if flags['labels']:
        folder = os.path.join(config.data_dir, config.dataset)
        flags['labels'] = os.path.abspath(find_labels(flags['labels'], folder))
    return flags


def lock_run(config, locks: RunLocks) -> None:
    """Lock the folder of a run, and one of its checkpoints elsewhere, if they exist."""
    is_one = same_folder(config.checkpoint_dir, config.out_dir)
    locks.add(config.out_dir, '--checkpoint_dir' if is_one else '--out_name')
    if not is_inside(config.checkpoint_dir, config.out_dir):
        locks.add(config.checkpoint_dir, '--checkpoint_dir')
