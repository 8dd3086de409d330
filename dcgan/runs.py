"""Run folders: their lock, their recorded flags, the newest one."""

import contextlib
import fcntl
import json
import os
import socket

from dcgan.errors import UserError, printable
from dcgan.files import glob_files


def usable_cores():
    """How many cores this process may run on."""
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # not on this system
        return os.cpu_count() or 1


def lock_run(run_dir):
    """Have a run folder for oneself while the file that is returned stays open.

    The system frees it when the process ends, however it does. Raises UserError that
    names the process that has it.
    """
    path = os.path.join(run_dir, 'lock')
    file = open(path, 'a+', encoding='utf-8')  # noqa: SIM115, it stays open
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        file.seek(0)
        owner = printable(file.read()) or 'another process'
        file.close()
        raise UserError(
            f'{run_dir}: {owner} trains this run; wait for it to end, stop it, or '
            'choose another --out_name'
        ) from None
    except OSError as error:
        print(f' [!] {run_dir}: cannot be locked here ({error.strerror})', flush=True)
    file.truncate(0)
    file.write(f'process {os.getpid()} on {socket.gethostname()}')
    file.flush()
    return file


def recorded_flags(run_dir):
    """The flags that FLAGS.json of a run folder holds; empty where there is none."""
    path = os.path.join(run_dir, 'FLAGS.json')
    try:
        with open(path, encoding='utf-8') as file:
            flags = json.load(file)
    except FileNotFoundError:
        return {}
    except (OSError, ValueError):
        flags = None
    if not isinstance(flags, dict):
        raise UserError(f'{path}: not the flags of a run; mend it or remove it')
    return flags


def recorded_folder(recorded, name, default):
    """A folder in a run folder, by the run's flags, which hold its path at the time."""
    try:
        return os.path.relpath(recorded[name], recorded['out_dir'])
    except (KeyError, TypeError, ValueError):
        return default


def newest_run(out_dir, dataset, checkpoint_dir):
    """The run folder of that data set under out_dir whose checkpoint is the newest.

    Raises UserError where there is none.
    """
    runs = []
    for name in os.listdir(out_dir) if os.path.isdir(out_dir) else []:
        run_dir = os.path.join(out_dir, name)
        with contextlib.suppress(UserError):  # a broken record is not this data set's
            recorded = recorded_flags(run_dir)
            if recorded.get('dataset') == dataset:
                folder = recorded_folder(recorded, 'checkpoint_dir', checkpoint_dir)
                for index in glob_files(os.path.join(run_dir, folder), '*.index'):
                    with contextlib.suppress(FileNotFoundError):  # removed meanwhile
                        runs.append((os.stat(index).st_mtime_ns, run_dir))
    if not runs:
        raise UserError(
            f'{out_dir}: no trained run of dataset {dataset} is there; '
            'train one with --train, or name one with --out_dir and --out_name'
        )
    return max(runs)[1]
