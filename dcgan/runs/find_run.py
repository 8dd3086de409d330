"""Find the run that a command line means: named, or the newest one of a data set."""

import contextlib
import os
import shlex

from dcgan.runs.flags_json import NAME, agrees
from dcgan.runs.lock import is_locked
from dcgan.runs.run import Run, has_checkpoints, is_inside, same_folder
from dcgan.training.checkpoints import checkpoints, completed_epochs, no_checkpoint
from dcgan.util.errors import UserError, printable
from dcgan.util.files import expand_path, glob_files
from dcgan.util.flags import Flags


def name_in(out_dir: str, out_name: str) -> str:
    """--out_name as a path in out_dir; UserError if out_dir is a file.

    It may be given as a path to the run, such as the shell completes: out/NAME/.
    """
    if os.path.isfile(out_dir):
        raise UserError(f'{out_dir}: is a file; choose another --out_dir')
    name = os.path.normpath(out_name) if out_name else ''
    is_path = name != os.path.basename(name) and os.path.isdir(name)
    if is_path and not os.path.isdir(os.path.join(out_dir, name)):
        relative = os.path.relpath(name, out_dir)
        return name if relative.startswith(os.pardir) else relative
    return name


def chosen_folders(config, flags: Flags) -> dict[str, str]:
    """{flag: path} of the folders in a run that the command line gives.

    A --checkpoint_dir that means a run by itself is absolute: it holds checkpoints and
    is absolute, or lies in the run of --out_name, or a model is used without
    --out_name. Otherwise it is a name in the run.
    """
    chosen = {
        name: expand_path(flags[name].value)
        for name in flags.given('checkpoint_dir', 'sample_dir')
    }
    folder = chosen.get('checkpoint_dir', '')
    if folder and has_checkpoints(folder):
        run_dir = os.path.join(config.out_dir, config.out_name)
        is_in_run = config.out_name and is_inside(folder, run_dir)
        is_used = not (config.train or config.out_name)
        if os.path.isabs(folder) or is_in_run or is_used:
            chosen['checkpoint_dir'] = os.path.abspath(folder)
    return chosen


def own_checkpoints(chosen: dict[str, str]) -> str:
    """The path of a --checkpoint_dir that means a run by itself, or ''."""
    folder = chosen.get('checkpoint_dir', '')
    return folder if os.path.isabs(folder) and has_checkpoints(folder) else ''


def named_run(config, chosen: dict[str, str]) -> Run | None:
    """The run of --out_name, or of a --checkpoint_dir that means one; or None."""
    folder = own_checkpoints(chosen)
    owner = Run.of_checkpoints(folder, chosen) if folder else None
    if config.out_name:
        named = Run(os.path.join(config.out_dir, config.out_name), chosen=chosen)
        if not owner or named.recorded:
            return named
        # the same command, given from another working folder
        names = {os.path.basename(run.folder) for run in (owner, named)}
        if owner.recorded and owner.folder != folder and len(names) == 1:
            return owner
        named.recorded = owner.recorded
        return named
    if not owner or (config.train and not owner.recorded):
        return None  # in training: a new run, from these checkpoints
    config.out_name = os.path.basename(owner.folder)
    return owner


def newest_run(config, chosen: dict[str, str]) -> Run:
    """The run under --out_dir, on --dataset, that has the newest checkpoint.

    Raises UserError, which names the data sets that have runs, if there is none; and
    where --checkpoint_dir is the path of a folder without checkpoints.
    """
    name = os.path.normpath(chosen.get('checkpoint_dir', 'checkpoint'))
    if name != os.path.basename(name):
        raise no_checkpoint(chosen['checkpoint_dir'])
    of_folder, of_name, others = [], [], set()
    for run in trained_runs(config.out_dir, name):
        if run.is_of(config.data_dir, config.dataset):
            of_folder.append(run)
        dataset = run.recorded['dataset']
        if os.path.normpath(dataset) == os.path.normpath(config.dataset):
            of_name.append(run)
        others.add(dataset)
    if of_folder or of_name:
        run = (of_folder or of_name)[-1]
        run.chosen = chosen
        return run
    names = printable(', '.join(sorted(others)))
    there = f'there are runs of {names}; ' if others else ''
    raise UserError(
        f'{config.out_dir}: no trained run of dataset {config.dataset} found; {there}'
        'train one with --train, or choose one with --out_dir and --out_name'
    )


def trained_runs(out_dir: str, checkpoint_dir: str = 'checkpoint') -> list[Run]:
    """The runs under out_dir, in nested folders too, by their newest checkpoints.

    `checkpoint_dir` is the name of the folder of checkpoints in a run that has no
    record of it. Runs without checkpoints, and copies of FLAGS.json, are left out.
    """
    found = []
    for run_dir, _, names in os.walk(out_dir):
        if NAME not in names:
            continue
        # a run with a corrupt FLAGS.json is skipped
        with contextlib.suppress(UserError):
            run = Run(run_dir)
            folder = run.recorded_checkpoints(checkpoint_dir)
            is_copy = same_folder(folder, run_dir)  # beside checkpoints
            if is_copy or not isinstance(run.recorded.get('dataset'), str):
                continue
            times = [0]
            for index in glob_files(folder, '*.index'):
                # another process may prune this checkpoint now
                with contextlib.suppress(FileNotFoundError):
                    times.append(os.stat(index).st_mtime_ns)
            if max(times):
                found.append((max(times), run_dir, run))
    return [run for _, _, run in sorted(found)]  # no two have one folder


def print_unfinished(config, flags: Flags) -> None:
    """Print a line on the newest run of these settings that was not completed."""
    names = ['epoch', *flags.names('result')]
    for run in reversed(trained_runs(config.out_dir)):
        if not run.is_of(config.data_dir, config.dataset):
            continue
        if not agrees(config, flags, run.recorded, names):
            continue
        saved = checkpoints(run.checkpoint_dir)
        complete = (path for path in saved if os.path.exists(f'{path}.index'))
        epochs = completed_epochs(next(complete, ''), config.train_size)
        if epochs is None or epochs >= config.epoch or is_locked(run.folder):
            continue
        name = shlex.quote(os.path.relpath(run.folder, config.out_dir))
        print(
            f' [*] A new run begins. One of the same settings is unfinished, after '
            f'{epochs} of {config.epoch} epochs: --out_name {name} continues it',
            flush=True,
        )
        return
