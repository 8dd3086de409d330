"""Run folders: lock one, read the flags recorded in it, find the newest one."""

import contextlib
import fcntl
import json
import os
import socket
from typing import Any, TextIO

from dcgan.errors import UserError, printable
from dcgan.files import glob_files


def usable_cores() -> int:
    """Return the number of CPU cores that this process may use."""
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # this system does not have the call
        return os.cpu_count() or 1


def lock_run(run_dir: str) -> TextIO:
    """Lock a run folder for as long as the returned file is open.

    When the process ends, even if it is killed, the system releases the lock. Where the
    file system has no locks, a warning is printed and the run continues without one.
    Raises UserError, which names the owner of the lock, if another process holds it.
    """
    path = os.path.join(run_dir, 'lock')
    file = open(path, 'a+', encoding='utf-8')  # noqa: SIM115, the caller closes it
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        file.seek(0)
        owner = printable(file.read()) or 'another process'
        file.close()
        raise UserError(
            f'{run_dir}: {owner} is training this run; wait for it to end, stop it, or '
            'choose another --out_name'
        ) from None
    except OSError as error:
        print(
            f' [!] {run_dir}: cannot be locked ({error.strerror}); do not train this '
            'run in two processes at once',
            flush=True,
        )
    file.truncate(0)
    file.write(f'process {os.getpid()} on {socket.gethostname()}')
    file.flush()
    return file


def recorded_flags(run_dir: str) -> dict[str, Any]:
    """Read FLAGS.json of a run folder; the result is empty if there is no such file.

    Raises UserError if the file cannot be read or does not hold flags.
    """
    path = os.path.join(run_dir, 'FLAGS.json')
    try:
        with open(path, encoding='utf-8') as file:
            flags = json.load(file)
    except FileNotFoundError:
        return {}
    except (OSError, ValueError):
        flags = None
    if not isinstance(flags, dict):
        raise UserError(f'{path}: does not hold flags of a run; fix it or remove it')
    return flags


def recorded_folder(recorded: dict[str, Any], name: str, default: str) -> str:
    """Return where a folder of a run is, as a path relative to the run folder.

    `name` is the flag of that folder, such as checkpoint_dir. The recorded flags hold
    its path and that of the run folder at the time of the training; only the path from
    one to the other still holds when the run folder has been moved. Returns `default`
    if the flags lack them.
    """
    try:
        return os.path.relpath(recorded[name], recorded['out_dir'])
    except (KeyError, TypeError, ValueError):
        return default


def newest_run(out_dir: str, dataset: str, checkpoint_dir: str) -> str:
    """Return the run folder under out_dir that has the newest checkpoint.

    Only runs that were trained on `dataset` are considered. `checkpoint_dir` is the
    name of the checkpoint folder in a run folder that has no record of it.
    Raises UserError if there is no such run.
    """
    runs = []
    for name in os.listdir(out_dir) if os.path.isdir(out_dir) else []:
        run_dir = os.path.join(out_dir, name)
        # a run with a corrupt FLAGS.json is skipped
        with contextlib.suppress(UserError):
            recorded = recorded_flags(run_dir)
            if recorded.get('dataset') == dataset:
                folder = recorded_folder(recorded, 'checkpoint_dir', checkpoint_dir)
                for index in glob_files(os.path.join(run_dir, folder), '*.index'):
                    # another process may prune this checkpoint now
                    with contextlib.suppress(FileNotFoundError):
                        runs.append((os.stat(index).st_mtime_ns, run_dir))
    if not runs:
        raise UserError(
            f'{out_dir}: no trained run of dataset {dataset} found; '
            'train one with --train, or choose one with --out_dir and --out_name'
        )
    return max(runs)[1]
