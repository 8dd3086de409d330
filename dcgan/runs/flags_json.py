"""Read and write FLAGS.json of a run, and recall the flags that it has recorded."""

import contextlib
import json
import os
import re
from pathlib import Path
from typing import Any

from dcgan.util.errors import UserError, escape
from dcgan.util.files import read_file, write_json
from dcgan.util.flags import MAX_SIZE, Flags

NAME = 'FLAGS.json'
FOLDERS = ('out_dir', 'checkpoint_dir', 'sample_dir')  # of a run
DIMS = ('y_dim', 'c_dim')  # no flags, recorded of networks that a user has written
# flags that, if they are given, override the recorded values of others
GENERAL = {'input_height': ['input_width'], 'output_height': ['output_width']}
GENERAL |= {'learning_rate': ['learning_rate_d', 'learning_rate_g']}
GENERAL |= {'lr_schedule': ['lr_decay_epochs', 'lr_decay_rate']}
MAX_RECORD, MAX_VALUE = 1 << 20, 1 << 12  # bytes of FLAGS.json and of a value


def read_flags(run_dir: str) -> dict[str, Any]:
    """The recorded flags of a run folder, or {}. UserError if FLAGS.json is corrupt."""
    path, problem = os.path.join(run_dir, NAME), 'does not hold flags of a run'
    if not os.path.lexists(path):
        return {}
    flags = read_file(path, _parse_record, problem, most=MAX_RECORD)
    if isinstance(path := flags.get('data_dir'), str) and path:
        from_run = os.path.normpath(os.path.join(run_dir, path))
        here = re.sub(r'^(\.\./)+', './', path.replace('\\', '/'))  # also from Windows
        places = os.path.join(os.curdir, from_run), here, path  # if the run has moved
        flags['data_dir'] = next(filter(os.path.exists, places), here)
    return flags


def _parse_record(content):
    flags = {**json.loads(content)}
    for name, value in flags.items():
        text = os.fsencode(str(value))
        is_number = type(value) is int and 0 < value < MAX_SIZE
        is_unfit = name in DIMS and not (is_number or value is None)
        if is_unfit or len(text) > MAX_VALUE or b'\0' in text:
            raise ValueError(f'{name:.60} cannot be {value!r:.60}')
    return flags


def write_flags(folder: str, flags: dict[str, Any]) -> None:
    """Record flags in a run folder: its folders as paths from there.

    A path is full if it, or that of the run, is given so, and it leads out of the run;
    and in a folder of checkpoints outside of the run.
    """
    out_dir, paths = flags['out_dir'], {}
    for name in (*FOLDERS, 'data_dir'):
        path, full = flags[name], os.path.abspath(flags[name])
        is_outside = not Path(full).is_relative_to(os.path.abspath(out_dir))
        is_full = is_outside and (os.path.isabs(path) or os.path.isabs(out_dir))
        is_full |= folder == flags['checkpoint_dir']
        paths[name] = full if is_full else os.path.relpath(path, out_dir)
    write_json(os.path.join(folder, NAME), {**flags, **paths})


def decided(flags: Flags) -> set[str]:
    """The flags that are given, and those for which one in GENERAL, or labels, are."""
    given, sources = {*flags.given(*flags.table)}, {*flags.names('labels')}
    others = [GENERAL.get(name, ()) for name in given]
    return given.union(*others, sources if sources & given else ())


def with_origins(message: str, flags: Flags) -> str:
    """An error message, with the values of flags in it that only FLAGS.json has."""
    values, named = flags.recorded, {*re.findall(r'--(\w+)', message)} - decided(flags)
    told = ', '.join(f'--{n} {values[n]}' for n in sorted(named) if values.get(n))
    return f'{message}; FLAGS.json of the run has {escape(told)}' if told else message


def recall(config, flags: Flags, recorded: dict[str, Any], names: list[str]) -> None:
    """Set recorded flags in config, except what the command line decides.

    Raises UserError for a value that the flag cannot have.
    """
    for name in recorded.keys() & {*names} - decided(flags):
        setattr(config, name, _parse(flags[name], recorded[name]))
    config.input_width = config.input_width or config.input_height
    config.output_width = config.output_width or config.output_height


def agrees(config, flags: Flags, recorded: dict[str, Any], names: list[str]) -> bool:
    """Whether flags have the same values in config and in a record, by default its."""
    with contextlib.suppress(UserError):
        values = [_parse(flags[n], recorded.get(n, flags[n].default)) for n in names]
        return values == [getattr(config, name) for name in names]
    return False


def _parse(flag, value):
    if value is None and flag.default is None:
        return None
    try:
        parsed = flag.parser.parse(value)
        is_number = isinstance(parsed, int | float) and parsed != flag.default
        if is_number and not abs(parsed) < 2**53:  # also nan
            raise ValueError('it is too large')
        return parsed
    except Exception as error:
        problem = f'{flag.name} {value!r:.60}: {error!s:.300}'
        raise UserError(f'FLAGS.json of the run: {problem}; fix it') from error
