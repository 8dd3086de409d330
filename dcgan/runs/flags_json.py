"""Read and write FLAGS.json of a run, and recall the flags that it has recorded."""

import contextlib
import json
import os
from pathlib import Path
from typing import Any

from dcgan.util.errors import UserError
from dcgan.util.files import read_errors, write_json
from dcgan.util.flags import Flags

NAME = 'FLAGS.json'
FOLDERS = ('out_dir', 'checkpoint_dir', 'sample_dir')  # of a run


def read_flags(run_dir: str) -> dict[str, Any]:
    """The recorded flags of a run folder, or {}. UserError if FLAGS.json is corrupt."""
    path = os.path.join(run_dir, NAME)
    is_missing = contextlib.suppress(FileNotFoundError, NotADirectoryError)
    with read_errors(path, 'does not hold flags of a run'), is_missing:
        return {**json.loads(Path(path).read_text(encoding='utf-8'))}
    return {}


def write_flags(run_dir: str, flags: dict[str, Any]) -> None:
    """Record flags in a run folder: its folders as paths from there, if in it."""
    folders = {name: os.path.relpath(flags[name], flags['out_dir']) for name in FOLDERS}
    for name, relative in folders.items():
        if relative.startswith(os.pardir) and os.path.isabs(flags[name]):
            folders[name] = flags[name]
    write_json(os.path.join(run_dir, NAME), {**flags, **folders})


def write_copy(folder: str, flags: dict[str, Any]) -> None:
    """Record flags in a folder of checkpoints outside of its run, with full paths."""
    paths = {name: os.path.abspath(flags[name]) for name in (*FOLDERS, 'data_dir')}
    write_json(os.path.join(folder, NAME), {**flags, **paths})


def recorded_folder(
    recorded: dict[str, Any], run_dir: str, name: str, default: str
) -> str:
    """Where a folder of a run is, also after the run was moved to another system.

    name: the flag of the folder. default: the folder's name if no flag leads to it.
    """
    default = os.path.join(run_dir, default)
    paths = recorded.get(name), recorded.get('out_dir')
    if not all(isinstance(path, str) for path in paths):
        return default
    candidates = []
    for folder, out_dir in paths, [path.replace('\\', '/') for path in paths]:
        is_outside = os.path.isabs(folder) != os.path.isabs(out_dir)
        relative = folder if is_outside else os.path.relpath(folder, out_dir)
        if os.path.isabs(folder) and relative.startswith(os.pardir):
            relative = folder  # elsewhere, so it has not moved with the run
        candidates.append(os.path.join(run_dir, relative))
    return next(filter(os.path.isdir, [*candidates, default]), candidates[-1])


def recall(config, flags: Flags, recorded: dict[str, Any], names: list[str]) -> None:
    """Set recorded flags in config, except what the command line has.

    A height there also overrides a recorded width, and a source of labels any other.
    Raises UserError for a value that the flag cannot have.
    """
    free = {n for n in names if not flags.given(n, n.replace('width', 'height'))}
    sources = flags.names('labels')
    if flags.given(*sources):
        free -= {*sources}
    for name in recorded.keys() & free:
        setattr(config, name, _parse(flags[name], recorded[name]))
    config.input_width = config.input_width or config.input_height
    config.output_width = config.output_width or config.output_height


def agrees(config, flags: Flags, recorded: dict[str, Any], names: list[str]) -> bool:
    """Whether flags have the same values in config and in a record, by default its."""
    with contextlib.suppress(UserError):
        given = [recorded.get(name, flags[name].default) for name in names]
        values = [_parse(flags[name], value) for name, value in zip(names, given)]
        return values == [getattr(config, name) for name in names]
    return False


def _parse(flag, value):
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
