"""Which run a command line means: checkpoint folders of their own, unfinished runs."""

import json
import os
import shutil

import pytest
from conftest import ROOT, SMALL, run_in_process, write_images

from dcgan.util.files import lock_folder

TRAIN = ['--train', *SMALL, '--epoch', 1]


@pytest.fixture(scope='module')
def workspace(tmp_path_factory):
    """A folder with two data sets, p and q, and the run out/a on p."""
    workspace = tmp_path_factory.mktemp('workspace')
    for name in 'pq':
        write_images(workspace / 'data' / name, count=16)
    passed(run_in_process(*TRAIN, '--dataset', 'p', '--out_name', 'a', cwd=workspace))
    return workspace


@pytest.fixture
def checkpoints(workspace, tmp_path):
    """A folder that holds the checkpoint of the run a, and nothing else."""
    for path in (workspace / 'out' / 'a' / 'checkpoint').glob('model*'):
        shutil.copy(path, tmp_path)
    return tmp_path


def train_elsewhere(workspace, folder):
    """The flags of a run on p, named after `folder`, in which its checkpoints lie."""
    flags = ['--checkpoint_dir', folder / 'ckpt', '--sample_dir', folder / 'grids']
    args = [*TRAIN, '--dataset', 'p', *flags, '--out_name', folder.name]
    passed(run_in_process(*args, cwd=workspace))
    return flags


@pytest.fixture
def elsewhere(workspace, tmp_path):
    """The flags of a run whose checkpoints and samples lie elsewhere."""
    return train_elsewhere(workspace, tmp_path)


@pytest.fixture(scope='module')
def untouched(workspace, tmp_path_factory):
    """The flags of such a run that no test changes."""
    return train_elsewhere(workspace, tmp_path_factory.mktemp('untouched'))


def passed(result):
    assert result.returncode == 0, result.stderr
    return result


def failed(result):
    """The one line of an error."""
    assert result.returncode == 1 and result.stderr.count('\n') == 1, result.stderr
    assert result.stderr.startswith('main.py: ')
    return result.stderr


# --checkpoint_dir as a separate run


@pytest.mark.parametrize('is_relative', [False, True])
def test_folder_with_a_checkpoint_is_the_run(is_relative, workspace, checkpoints):
    folder = os.path.relpath(checkpoints, workspace) if is_relative else checkpoints
    result = passed(run_in_process('--checkpoint_dir', folder, cwd=workspace))
    assert f'Run {checkpoints}, iteration 2' in result.stdout
    assert len(list((checkpoints / 'samples').glob('test_*.png'))) == 1
    assert not list((workspace / 'out' / 'a' / 'samples').glob('test_*.png'))


def test_samples_of_such_a_run_go_to_sample_dir(workspace, checkpoints):
    folder = checkpoints / 'pictures'
    args = ['--checkpoint_dir', checkpoints, '--sample_dir', folder]
    passed(run_in_process(*args, cwd=workspace))
    assert len(list(folder.glob('test_*.png'))) == 1


def test_flags_beside_the_checkpoint_are_used(workspace, checkpoints):
    flags = json.loads((workspace / 'out' / 'a' / 'FLAGS.json').read_text())
    flags['z_dist'] = 'normal01'
    (checkpoints / 'FLAGS.json').write_text(json.dumps(flags))
    result = passed(run_in_process('--checkpoint_dir', checkpoints, cwd=workspace))
    assert '--z_dist normal01' in result.stdout
    assert len(list((checkpoints / 'samples').glob('test_*.png'))) == 1


def test_checkpoint_folder_of_a_run_means_that_run(workspace):
    folder = workspace / 'out' / 'a' / 'checkpoint'
    result = passed(run_in_process('--checkpoint_dir', folder, '--gif', cwd=workspace))
    assert f'Run {workspace}/out/a, iteration 2' in result.stdout


@pytest.mark.parametrize('case', ['cond28', 'rgb64'])
def test_shapes_tell_the_flags_of_a_checkpoint_of_the_original(case, tmp_path):
    shutil.copytree(ROOT / 'tests' / 'golden' / case / 'checkpoint', tmp_path / 'c')
    result = passed(run_in_process('--checkpoint_dir', tmp_path / 'c', cwd=tmp_path))
    size = {'cond28': '--output_height 28 ', 'rgb64': ' --output_width 64 '}[case]
    assert ' --z_dim 20' in result.stdout and size in result.stdout


def test_empty_absolute_folder_is_named(workspace, tmp_path):
    result = run_in_process('--checkpoint_dir', tmp_path, cwd=workspace)
    assert f'{tmp_path}: no checkpoint found' in failed(result)


# Checkpoints and samples elsewhere


def test_run_with_folders_elsewhere_goes_on_from_anywhere(workspace, elsewhere):
    folder, grids = elsewhere[1], elsewhere[3]
    (grids.parent / 'cwd').mkdir()
    cwd = grids.parent / 'cwd'
    result = passed(run_in_process('--dataset', 'p', *elsewhere, cwd=cwd))
    assert f'Run {workspace}/out/{grids.parent.name}, iteration 2' in result.stdout
    args = [*TRAIN, '--dataset', 'p', *elsewhere, '--epoch', 2]
    result = passed(run_in_process(*args, cwd=cwd))
    assert 'Resuming after iteration 2, in epoch 1, batch 0' in result.stdout
    names = {path.name for path in grids.iterdir()}
    assert {'train_00000002.png', 'train_00000004.png'} <= names
    assert (folder / 'model.b8-4.index').exists() and not list(cwd.iterdir())


@pytest.mark.parametrize('other', [['--out_name', 'new'], ['--dataset', 'q']])
def test_checkpoints_of_another_run_are_not_continued(other, workspace, untouched):
    before = {path: path.read_bytes() for path in untouched[1].iterdir()}
    result = run_in_process(*TRAIN, '--dataset', 'p', *untouched, *other, cwd=workspace)
    message = failed(result)
    assert f'{untouched[1]}: holds checkpoints of the run ' in message
    assert 'of dataset p; choose another --checkpoint_dir' in message
    assert {path: path.read_bytes() for path in untouched[1].iterdir()} == before
    assert not (workspace / 'out' / 'new').exists()


def test_checkpoints_of_another_model_are_not_continued(workspace, untouched):
    args = [*TRAIN, '--dataset', 'p', *untouched, '--output_height', 32]
    message = failed(run_in_process(*args, cwd=workspace))
    assert f'{untouched[1]}/model.b8-2 has ' in message and '--output_height' in message


def test_checkpoint_folder_elsewhere_is_locked(workspace, untouched):
    unlock = lock_folder(str(untouched[1]))
    try:
        args = [*TRAIN, '--dataset', 'p', *untouched]
        message = failed(run_in_process(*args, cwd=workspace))
    finally:
        unlock()
    assert f'main.py: {untouched[1]}: ' in message and 'is training this run' in message


def test_checkpoints_of_a_run_that_is_gone_are_not_continued_on_other_data(
    workspace, elsewhere
):
    name = elsewhere[1].parent.name
    shutil.rmtree(workspace / 'out' / name)
    args = [*TRAIN, *elsewhere, '--dataset', 'q', '--out_name', 'b']
    assert 'of dataset p; choose' in failed(run_in_process(*args, cwd=workspace))
    again = [*TRAIN, *elsewhere, '--dataset', 'p', '--epoch', 2]
    result = passed(run_in_process(*again, cwd=workspace))
    assert 'Resuming after iteration 2' in result.stdout


def test_relative_folder_outside_of_the_run_is_guarded_too(workspace, tmp_path):
    args = [*TRAIN, '--out_dir', tmp_path, '--checkpoint_dir', '../common']
    args += ['--dataset', 'p', '--out_name']
    passed(run_in_process(*args, 'c', cwd=workspace))
    for other in ['d'], ['d', '--dataset', 'q']:
        message = failed(run_in_process(*args, *other, cwd=workspace))
        assert f'holds checkpoints of the run {tmp_path}/c, of dataset p' in message
    passed(run_in_process(*args, 'c', '--epoch', 2, cwd=workspace))


def test_flags_json_has_paths_from_the_run_folder(workspace, untouched):
    folders = ['out_dir', 'checkpoint_dir', 'sample_dir']
    inside, elsewhere = (
        json.loads((workspace / 'out' / name / 'FLAGS.json').read_text())
        for name in ('a', untouched[1].parent.name)
    )
    copy = json.loads((untouched[1] / 'FLAGS.json').read_text())
    assert [inside[name] for name in folders] == ['.', 'checkpoint', 'samples']
    others = [str(untouched[1]), str(untouched[3])]
    assert [elsewhere[name] for name in folders] == ['.', *others]
    run_folder = str(workspace / 'out' / untouched[1].parent.name)
    assert [copy[name] for name in folders] == [run_folder, *others]


def test_records_of_older_versions_lead_to_the_folders(workspace, tmp_path):
    shutil.copytree(workspace / 'out' / 'a', tmp_path / 'moved')
    path = tmp_path / 'moved' / 'FLAGS.json'
    (tmp_path / 'moved' / 'samples').rename(tmp_path / 'moved' / 'grids')
    old = {'out_dir': './out/a', 'checkpoint_dir': './out/a/checkpoint'}
    old |= {'sample_dir': './out/a/grids', 'noema': True}
    path.write_text(json.dumps(json.loads(path.read_text()) | old))
    args = ['--out_dir', tmp_path, '--out_name', 'moved', '--generate_test_images', 1]
    passed(run_in_process(*args, cwd=workspace))
    assert len(list((tmp_path / 'moved' / 'grids').glob('test_*.png'))) == 1


def test_link_to_a_checkpoint_folder_means_its_run(workspace, tmp_path):
    (tmp_path / 'link').symlink_to(workspace / 'out' / 'a' / 'checkpoint')
    args = ['--checkpoint_dir', tmp_path / 'link', '--gif']
    result = passed(run_in_process(*args, cwd=workspace))
    assert f'Run {workspace}/out/a, iteration 2' in result.stdout


def test_run_in_its_checkpoint_folder_goes_on_from_anywhere(workspace, checkpoints):
    shutil.copy(workspace / 'out' / 'a' / 'FLAGS.json', checkpoints)
    args = ['--train', '--checkpoint_dir', checkpoints, '--epoch']
    passed(run_in_process(*args, 2, cwd=workspace))
    (checkpoints / 'cwd').mkdir()
    result = passed(run_in_process(*args, 3, cwd=checkpoints / 'cwd'))
    assert 'Resuming after iteration 4, in epoch 2' in result.stdout
    assert not list((checkpoints / 'cwd').iterdir())


@pytest.mark.parametrize('flags', ['{"z_dim": 6}', '{"gf_dim": 4, "dataset": "p"}'])
def test_shapes_tell_what_the_flags_lack(flags, workspace, checkpoints):
    (checkpoints / 'FLAGS.json').write_text(flags)
    result = passed(run_in_process('--checkpoint_dir', checkpoints, cwd=workspace))
    assert 'Image size 16x16, by the shapes of the weights' in result.stdout
    args = ['--train', '--checkpoint_dir', checkpoints, '--dataset', 'p', '--epoch', 2]
    passed(run_in_process(*args, '--batch_size', 8, cwd=workspace))


def test_relative_folder_with_checkpoints_that_is_not_used_is_named(
    workspace, checkpoints
):
    relative = os.path.relpath(checkpoints, workspace)
    args = [*TRAIN, '--dataset', 'p', '--out_dir', checkpoints / 'o' / 'o' / 'o']
    args += ['--checkpoint_dir', relative]
    result = passed(run_in_process(*args, cwd=workspace))
    assert f'The checkpoints in {relative} are not used' in result.stdout
    assert f'--checkpoint_dir {checkpoints}\n' in result.stdout


@pytest.mark.parametrize('is_relative', [False, True])
def test_run_folder_in_place_of_its_checkpoints_is_explained(is_relative, workspace):
    folder = 'out/a' if is_relative else str(workspace / 'out' / 'a')
    message = failed(run_in_process('--checkpoint_dir', folder, cwd=workspace))
    inner = os.path.join(folder, 'checkpoint')
    assert (
        message
        == f'main.py: {folder}: no checkpoint found; there are some in {inner}\n'
    )


# Unfinished runs


def interrupted_run(workspace, out_dir, name, *args):
    """A run of two epochs of which only the first one is left."""
    args = [*TRAIN, '--dataset', 'p', '--out_dir', out_dir, '--epoch', 2, *args]
    args += ['--ckpt_freq', 2, '--max_to_keep', 0]
    passed(run_in_process(*args, '--out_name', name, cwd=workspace))
    for path in (out_dir / name / 'checkpoint').glob('model.b8-4.*'):
        path.unlink()
    return args


def new_run(workspace, *args):
    """What a command prints that settles its run, and then ends for want of a disk."""
    (workspace / 'file').write_text('')
    args = [*args, '--sample_dir', workspace / 'file' / 'samples']
    result = run_in_process(*args, cwd=workspace)
    assert 'choose another --sample_dir' in failed(result)
    return result.stdout


def test_unfinished_run_of_these_settings_is_named(workspace, tmp_path):
    args = interrupted_run(workspace, tmp_path, 'my run', '--learning_rate', 0.001)
    line = "unfinished, after 1 of 2 epochs: --out_name 'my run' continues it"
    assert line in new_run(workspace, *args)
    unlike = [['--dataset', 'q'], ['--z_dim', 7], ['--learning_rate', 0.1]]
    for changes in [*unlike, ['--epoch', 1], ['--d_dropout', 0.1]]:
        assert 'is unfinished' not in new_run(workspace, *args, *changes), changes
    unlock = lock_folder(str(tmp_path / 'my run'))  # it is being trained
    assert 'is unfinished' not in new_run(workspace, *args)
    unlock()


# Folders that cannot be written


UNWRITABLE = [  # arguments, and the flag that chooses another folder
    (['--train', '--dataset', 'p', '--out_dir', 'file/out'], '--out_dir'),
    (['--train', '--dataset', 'p', '--sample_dir', 'PATH/file'], '--sample_dir'),
    (['--train', '--dataset', 'p', '--checkpoint_dir', 'PATH/file'], '--checkpoint'),
    (['--train', '--dataset', 'digits', '--data_dir', 'file'], '--data_dir'),
    (['--dataset', 'p', '--sample_dir', 'PATH/file/samples'], '--sample_dir'),
    (['--out_name', 'a', '--visualize', '--sample_dir', 'PATH/file'], '--sample_dir'),
]


@pytest.mark.parametrize('args, flag', UNWRITABLE)
def test_folder_that_cannot_be_written_names_its_flag(args, flag, workspace):
    (workspace / 'file').write_text('')
    args = [str(arg).replace('PATH', str(workspace)) for arg in args]
    message = failed(run_in_process(*args, cwd=workspace))
    assert 'cannot be written (' in message and f'choose another {flag}' in message
