"""Find the run that a command line means: named, or the newest one of a data set."""

import contextlib
import copy
import os
import shlex
from pathlib import Path

from dcgan.runs.flags_json import NAME, agrees, recall
from dcgan.runs.run import Run, same_folder
from dcgan.training import checkpoints
from dcgan.util.errors import UserError, printable
from dcgan.util.files import file_signature
from dcgan.util.flags import Flags
from dcgan.util.lock import is_locked
from dcgan.util.output import print_line


def chosen_folders(config, flags: Flags) -> tuple[dict[str, str], str]:
    """{flag: path} of the folders in a run that the command line gives, and one path.

    That is the absolute path of a --checkpoint_dir that means a run by itself, or ''.
    Raises UserError for a path of a folder without checkpoints, where nothing else says
    which run is used.
    """
    given = flags.given('checkpoint_dir', 'sample_dir')
    chosen = {name: getattr(config, name) for name in given}
    folder = chosen.get('checkpoint_dir', '')
    is_used = not (config.train or config.out_name)
    inside = folder and checkpoints.folder_inside(folder)
    if folder and checkpoints.index_files(folder):
        run_dir = os.path.realpath(os.path.join(config.out_dir, config.out_name))
        is_in_run = Path(os.path.realpath(folder)).is_relative_to(run_dir)
        if os.path.isabs(folder) or is_used or (config.out_name and is_in_run):
            chosen['checkpoint_dir'] = os.path.abspath(folder)
            return chosen, chosen['checkpoint_dir']
    elif is_used and (inside or os.path.dirname(os.path.normpath(folder))):
        raise checkpoints.no_checkpoint(folder)
    return chosen, ''


def meant_run(config, flags: Flags, chosen: dict[str, str], own: str) -> Run | None:
    """The run of --out_name, or of the checkpoints in `own`; else the newest.

    In training, None takes the place of the newest, and stands for a new run.
    """
    owner = Run.of_checkpoints(own, chosen) if own else None
    if config.out_name:
        named = Run(os.path.join(config.out_dir, config.out_name), chosen)
        if owner and not named.recorded:
            # the same command, given from another working folder
            is_same = os.path.basename(owner.folder) == os.path.basename(named.folder)
            if owner.folder != own and is_same:
                return owner
            named.recorded = owner.recorded
        return named
    if config.train and not (owner and owner.recorded):
        return None
    if owner:
        config.out_name = os.path.basename(owner.folder)
    return owner or newest_run(config, flags, chosen)


def newest_run(config, flags: Flags, chosen: dict[str, str]) -> Run:
    """The run under --out_dir, on --dataset, that has the newest checkpoint.

    One whose flags cannot be used is left out. Raises UserError if there is none.
    """
    runs = trained_runs(config.out_dir, chosen)
    names = [os.path.normpath(run.recorded['dataset']) for run in runs]
    wanted = os.path.normpath(config.dataset)
    found = [run for run in runs if run.is_of(config.data_dir, config.dataset)]
    # else on a set of this name in another folder
    found = found or [run for run, name in zip(runs, names) if name == wanted]
    for run in reversed(found):
        try:
            recall(copy.copy(config), flags, run.recorded, flags.names('model'))
            return run
        except UserError as error:
            print(f' [!] {printable(run.folder)} is left out: {error}')
    names = printable(', '.join(sorted({*names})))
    there = f'there are runs of {names}; ' if names else ''
    advice = 'train one with --train, or choose one with --out_dir and --out_name'
    problem = f'no trained run of dataset {config.dataset} found'
    raise UserError(f'{config.out_dir}: {problem}; {there}{advice}')


def trained_runs(out_dir: str, chosen: dict[str, str]) -> list[Run]:
    """The runs with checkpoints under out_dir, nested ones too, the newest last."""
    found = []
    for run_dir, _, names in os.walk(out_dir):
        if NAME not in names:
            continue
        # a run with a corrupt FLAGS.json is skipped
        with contextlib.suppress(UserError):
            run = Run(run_dir, chosen)
            is_copy = same_folder(run.checkpoint_dir, run_dir)  # beside checkpoints
            if is_copy or not isinstance(run.recorded.get('dataset'), str):
                continue
            # 0 for a checkpoint that another process prunes now
            indices = checkpoints.index_files(run.checkpoint_dir)
            times = [file_signature(path)[1] for path in indices]
            if any(times):
                found.append((max(times), run_dir, run))
    return [run for _, _, run in sorted(found)]  # no two have one folder


def print_unfinished(config, flags: Flags) -> None:
    """Print a line on the newest run of these settings that was not completed."""
    names = ['epoch', *flags.names('result')]
    for run in reversed(trained_runs(config.out_dir, {})):
        is_same = run.is_of(config.data_dir, config.dataset)
        if not (is_same and agrees(config, flags, run.recorded, names)):
            continue
        saved = checkpoints.checkpoints(run.checkpoint_dir)
        complete = filter(checkpoints.index_of, saved)
        epochs = checkpoints.completed_epochs(next(complete, ''), config.train_size)
        if epochs is not None and epochs < config.epoch and not is_locked(run.folder):
            name = shlex.quote(os.path.relpath(run.folder, config.out_dir))
            after = f'after {epochs} of {config.epoch} epochs'
            there = f'A new run begins. One of the same settings is unfinished, {after}'
            print_line(f' [*] {there}: --out_name {name} continues it')
            return
