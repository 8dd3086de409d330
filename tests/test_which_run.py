"""What a command line means: its run, flags and data. Models are not built here."""

import json
import math
import os
import re
import shutil
from pathlib import Path

import pytest
from absl.testing.flagsaver import flagsaver
from conftest import ROOT, SMALL, run_in_process, write_idx_set, write_images

import main
from dcgan.runs import command_line, settings
from dcgan.runs.flags_json import read_flags, write_flags
from dcgan.runs.run import Run
from dcgan.training.checkpoints import index_files
from dcgan.util.errors import UserError
from dcgan.util.lock import lock_run


def settle(*args):
    """(config, Settled) of a command line that is given in this working folder."""
    with flagsaver():
        main.TABLE.define()
        argv = main.FLAGS(['main.py', *map(str, args)])
        config = command_line.read_flags(argv, main.TABLE)
        settled = settings.settle_training if config.train else settings.settle_use
        return config, settled(config, main.TABLE)


def fails(*args):
    """The message of the error in which a command line ends."""
    with pytest.raises(UserError) as caught:
        settle(*args)
    return str(caught.value)


@pytest.fixture(scope='module')
def trained(tiny_runs, tmp_path_factory):
    """A folder that holds the checkpoint of a run after its first epoch."""
    folder = tmp_path_factory.mktemp('trained')
    for path in (tiny_runs / 'out' / 'cats' / 'checkpoint').glob('model.b8-3.*'):
        shutil.copy(path, folder)
    return folder


@pytest.fixture
def train(trained):
    """A function that leaves what the first epoch of a training by these flags does."""

    def train(*args):
        config, (run, *_) = settle('--train', *SMALL, *args)
        run.start(config, [])
        run.close()
        shutil.copytree(trained, run.checkpoint_dir, dirs_exist_ok=True)
        return run

    return train


@pytest.fixture(autouse=True)
def cwd(tmp_path, monkeypatch, train):
    """The working folder: two data sets, p and q, and the run out/a on p."""
    monkeypatch.chdir(tmp_path)
    for name in 'pq':
        write_images(tmp_path / 'data' / name, count=1)
    train('--dataset', 'p', '--out_name', 'a')
    return tmp_path


@pytest.fixture
def elsewhere(cwd, train):
    """The flags of the run `far`, whose checkpoints and samples lie elsewhere."""
    flags = ['--dataset', 'p', '--checkpoint_dir', cwd / 'ckpt']
    flags += ['--sample_dir', cwd / 'grids']
    train(*flags, '--out_name', 'far')
    return flags


def folders(config):
    return config.out_dir, config.checkpoint_dir, config.sample_dir


# --checkpoint_dir as a separate run


def test_folder_with_a_checkpoint_is_the_run_of_the_flags_beside_it(cwd, trained):
    copy = str(shutil.copytree(trained, cwd / 'copies' / 'c'))
    for given in copy, os.path.relpath(copy):
        config, settled = settle('--checkpoint_dir', given)
        assert folders(config) == (copy, copy, f'{copy}/samples')
        assert settled.checkpoint == f'{copy}/model.b8-3'
        config, _ = settle('--checkpoint_dir', given, '--sample_dir', cwd / 'grids')
        assert config.sample_dir == f'{cwd}/grids'
    flags = json.loads((cwd / 'out' / 'a' / 'FLAGS.json').read_text())
    Path(copy, 'FLAGS.json').write_text(json.dumps({**flags, 'z_dist': 'normal01'}))
    config, _ = settle('--checkpoint_dir', copy)
    assert config.z_dist == 'normal01' and config.sample_dir == f'{copy}/samples'


def test_checkpoint_folder_of_a_run_means_that_run_also_by_a_link(cwd):
    (cwd / 'link').symlink_to(cwd / 'out' / 'a' / 'checkpoint')
    for folder in cwd / 'out' / 'a' / 'checkpoint', cwd / 'link':
        config, _ = settle('--checkpoint_dir', folder)
        assert config.out_dir == f'{cwd}/out/a' and config.out_name == 'a'


def test_shapes_tell_the_flags_of_a_checkpoint_of_the_original():
    for case, size, y_dim, c_dim in ('cond28', 28, 10, 1), ('rgb64', 64, None, 3):
        checkpoint = ROOT / 'tests' / 'golden' / case / 'checkpoint'
        config, settled = settle('--checkpoint_dir', checkpoint, '--gif')
        assert (config.output_height, config.output_width) == (size, size)
        assert config.z_dim == 20 and settled[1:3] == (y_dim, c_dim)
        assert config.grayscale == (c_dim == 1)


@pytest.mark.parametrize('flags', ['{"z_dim": 6}', '{"gf_dim": 4, "dataset": "p"}'])
def test_shapes_tell_what_the_flags_lack(flags, cwd, trained, capsys):
    copy = shutil.copytree(trained, cwd / 'c')
    (copy / 'FLAGS.json').write_text(flags)
    config, _ = settle('--checkpoint_dir', copy)
    assert 'Image size 16x16, by the shapes of the weights' in capsys.readouterr().out
    assert (config.z_dim, config.gf_dim, config.output_height) == (6, 4, 16)
    config, _ = settle('--train', '--checkpoint_dir', copy, '--dataset', 'p')
    assert config.checkpoint_dir == str(copy) and config.gf_dim == 4


def test_folders_without_checkpoints_are_explained(cwd):
    (cwd / 'empty').mkdir()
    message = f'{cwd}/empty: no checkpoint found'
    assert fails('--checkpoint_dir', cwd / 'empty').startswith(message)
    for folder in 'out/a', f'{cwd}/out/a':
        message = f'no checkpoint found; there are some in {folder}/checkpoint'
        assert fails('--checkpoint_dir', folder) == f'{folder}: {message}'


# Checkpoints and samples elsewhere


def test_run_with_folders_elsewhere_goes_on_from_anywhere(cwd, elsewhere, monkeypatch):
    (cwd / 'other').mkdir()
    monkeypatch.chdir(cwd / 'other')
    for task in ['--gif'], ['--train', *SMALL]:
        config, _ = settle(*task, *elsewhere)
        assert folders(config) == (f'{cwd}/out/far', f'{cwd}/ckpt', f'{cwd}/grids')
    assert config.data_dir == f'{cwd}/data'
    assert not os.listdir()


def test_checkpoints_of_another_run_are_not_continued(cwd, elsewhere):
    message = f'{cwd}/ckpt: holds checkpoints of the run {cwd}/out/far, of dataset p; '
    message += 'choose another --checkpoint_dir'
    for other in ['--out_name', 'new'], ['--dataset', 'q']:
        assert fails('--train', *SMALL, *elsewhere, *other) == message
    shutil.rmtree(cwd / 'out' / 'far')  # its checkpoints still tell of it
    args = ['--train', *SMALL, *elsewhere]
    assert 'of dataset p; choose' in fails(*args, '--dataset', 'q', '--out_name', 'b')
    assert settle(*args)[0].checkpoint_dir == f'{cwd}/ckpt'


def test_checkpoint_folder_elsewhere_is_locked(cwd, elsewhere):
    _, (run, *_) = settle('--train', *SMALL, *elsewhere)
    unlock = lock_run(str(cwd / 'ckpt'), '')
    with pytest.raises(UserError, match=f'{cwd}/ckpt: .* is training this run'):
        run.lock()
    unlock()
    run.close()


def test_relative_folder_outside_of_the_run_is_guarded_too(cwd, train):
    args = ['--out_dir', cwd / 'runs', '--checkpoint_dir', '../common']
    args += ['--dataset', 'p', '--out_name']
    train(*args, 'c')
    for other in ['d'], ['d', '--dataset', 'q']:
        message = fails('--train', *SMALL, *args, *other)
        assert f'holds checkpoints of the run {cwd}/runs/c, of dataset p' in message
    train(*args, 'c')


def test_flags_json_has_paths_from_the_run_folder(cwd, elsewhere):
    names = ['out_dir', 'checkpoint_dir', 'sample_dir']
    inside, outside, copy = (
        [json.loads(Path(folder, 'FLAGS.json').read_text())[name] for name in names]
        for folder in ('out/a', 'out/far', 'ckpt')
    )
    assert inside == ['.', 'checkpoint', 'samples']
    assert outside == ['.', f'{cwd}/ckpt', f'{cwd}/grids']
    assert copy == [f'{cwd}/out/far', f'{cwd}/ckpt', f'{cwd}/grids']


@pytest.mark.parametrize(
    'recorded',
    [
        ('./out/b', './out/b/checkpoint', './out/b/grids'),
        ('.\\out\\b', './out\\b\\checkpoint', './out\\b\\grids'),
        ('C:\\runs\\b', 'C:\\runs\\b\\checkpoint', 'C:\\runs\\b\\grids'),
        ('C:\\runs\\b', 'C:\\runs\\b\\checkpoint', None),
    ],
)
def test_run_lies_where_it_is_whatever_its_flags_say(recorded, cwd):
    os.rename('out/a/samples', 'out/a/grids' if recorded[2] else 'out/a/samples')
    path = cwd / 'out' / 'a' / 'FLAGS.json'
    flags = json.loads(path.read_text())
    flags |= dict(zip(['out_dir', 'checkpoint_dir', 'sample_dir'], recorded))
    path.write_text(json.dumps({**flags, 'noema': True}))  # a flag that is no more
    (cwd / 'moved').mkdir()
    os.rename('out/a', 'moved/c')
    samples = 'moved/c/grids' if recorded[2] else 'moved/c/samples'
    for args in ['--dataset', 'p'], ['--out_name', 'c'], ['--train', '--out_name', 'c']:
        config, _ = settle('--out_dir', 'moved', *args)
        assert folders(config) == ('moved/c', 'moved/c/checkpoint', samples)


def test_run_in_its_checkpoint_folder_goes_on_from_anywhere(cwd, trained, monkeypatch):
    copy = shutil.copytree(trained, cwd / 'c')
    shutil.copy('out/a/FLAGS.json', copy)
    (cwd / 'other').mkdir()
    for folder in cwd, cwd / 'other':
        monkeypatch.chdir(folder)
        config, (run, *_) = settle('--train', '--checkpoint_dir', copy, '--epoch', 2)
        assert folders(config) == (str(copy), str(copy), f'{copy}/samples')
        run.start(config, [])
        run.close()
    assert not os.listdir()


def test_relative_folder_with_checkpoints_that_is_not_used_is_named(
    cwd, trained, capsys
):
    shutil.copytree(trained, cwd / 'c')
    config, _ = settle('--train', *SMALL, '--dataset', 'p', '--checkpoint_dir', 'c')
    assert config.checkpoint_dir == f'{config.out_dir}/c'
    out = capsys.readouterr().out
    assert 'The checkpoints in c are not used' in out
    assert f'--checkpoint_dir {cwd}/c\n' in out


# Names of runs and data sets


def test_run_can_be_named_by_its_path(cwd):
    (cwd / 'out' / 'x').mkdir()
    os.rename('out/a', 'out/x/b')
    for name in f'{cwd}/out/x/b/', 'out/x/b', 'x/b', 'x/b/':
        config, _ = settle('--out_dir', cwd / 'out', '--out_name', name)
        assert config.out_dir == f'{cwd}/out/x/b'
    assert settle('--dataset', 'p')[0].out_dir == './out/x/b'


def test_data_set_is_the_same_however_it_is_spelled(cwd):
    (cwd / 'data' / 'link').symlink_to('p')
    for dataset in 'p/', './p', cwd / 'data' / 'p', 'link':
        assert settle('--dataset', dataset)[0].out_dir == './out/a'
    message = './out: no trained run of dataset ps found; there are runs of p; '
    message += 'train one with --train, or choose one with --out_dir and --out_name'
    assert fails('--dataset', 'ps') == message


def test_home_and_variables_in_paths_are_expanded(cwd, monkeypatch):
    monkeypatch.setenv('HOME', str(cwd))
    monkeypatch.setenv('RUNS', 'out')
    config, _ = settle('--dataset', 'p', '--out_dir', '~/$RUNS')
    assert config.out_dir == f'{cwd}/out/a'


def test_newest_run_is_the_one_saved_last(cwd, train):
    times = {'a': 1000, 'saved last': 3000, 'other': 4000, 'corrupt': 5000}
    for name, time in times.items():
        dataset = 'q' if name == 'other' else 'p'
        run = train('--dataset', dataset, '--out_name', name)
        os.utime(f'{run.checkpoint_dir}/model.b8-3.index', (time, time))
    (cwd / 'out' / 'corrupt' / 'FLAGS.json').write_text('[1]')
    assert settle('--dataset', 'p')[0].out_dir == './out/saved last'


def test_newest_run_is_found_while_it_deletes_a_checkpoint(cwd, monkeypatch):
    old = cwd / 'out' / 'a' / 'checkpoint' / 'model.b8-1.index'
    old.touch()

    def list_and_delete(folder):
        paths = index_files(folder)
        old.unlink(missing_ok=True)
        return paths

    monkeypatch.setattr('dcgan.training.checkpoints.index_files', list_and_delete)
    assert settle('--dataset', 'p')[0].out_dir == './out/a' and not old.exists()


def test_checkpoint_without_an_iteration_in_its_name_is_named(cwd):
    folder = cwd / 'out' / 'a' / 'checkpoint'
    (folder / 'model.b8-3.index').rename(folder / 'DCGAN.model.index')
    message = './out/a/checkpoint: has DCGAN.model.index, but the name of a checkpoint '
    message += 'has to end in -ITERATION'
    assert fails('--out_name', 'a').startswith(message)


def test_labels_and_color_are_settled_by_flags(cwd):
    write_idx_set(cwd / 'data' / 'set', count=1, classes=1)
    for name in 'cow', 'dog':
        write_images(cwd / 'data' / 'pets' / name, count=1)
    classes = {'set': 1, 'set --unconditional': None, 'pets': None}
    for flags, y_dim in {**classes, 'pets --conditional': 2}.items():
        _, settled = settle('--train', *SMALL, '--dataset', *flags.split())
        assert settled.y_dim == y_dim, flags
    for flags, c_dim in ([], 3), (['--grayscale'], 1):
        assert settle('--train', *SMALL, '--dataset', 'p', *flags)[1].c_dim == c_dim


def test_flags_that_do_not_fit_are_reported_with_the_way_out(cwd):
    write_idx_set(cwd / 'data' / 'set', count=1)
    (cwd / 'file').touch()
    before = sorted(cwd.rglob('*'))
    for flags, message in {
        '--train --dataset set --conditional --unconditional': 'exclude each other',
        '--train --dataset p --conditional': 'no class folders',
        '--train --dataset none --conditional': './data/none: no such data folder',
        '--train --dataset set --bbox': '--bbox is for images, and ./data/set has IDX',
        '--train --dataset p --out_dir file': 'a directory); choose another --out_dir',
        '--out_name none': './out/none/checkpoint: no checkpoint found',
        '--dataset p --encode e.txt': '--encode e.txt: the name has to end in .npz',
        '--dataset p --features none.pb': '--features none.pb: no such file',
        '--dataset p False': "'False' is not a flag, see --help; ",
    }.items():
        assert message in fails(*flags.split())
    assert sorted(cwd.rglob('*')) == before


# Flags, and FLAGS.json


def test_run_name_is_the_originals_also_in_the_same_second(cwd, monkeypatch):
    monkeypatch.setattr('dcgan.runs.run.timestamp', lambda: '20200101.000000')
    args = ['--train', *SMALL, '--dataset', './p', '--input_height', 9]
    two = settle(*args), settle(*args)  # before one of them has started
    for config, (run, *_) in two:
        run.start(config, [])
        run.close()
    third, _ = settle(*args)
    name = '20200101.000000 - data - p - x9.z6.uniform_signed.y16.b8'
    folders = [config.out_dir for config in (two[0][0], two[1][0], third)]
    assert folders == [f'./out/{name}', f'./out/{name} - 2', f'./out/{name} - 3']
    assert two[1][0].out_name == f'{name} - 2' and os.path.isdir(f'out/{name} - 2')


def test_command_line_overrides_recorded_flags(cwd):
    config, _ = settle('--out_name', 'a', '--batch_size', 3)
    assert (config.batch_size, config.z_dim, config.gf_dim) == (3, 6, 4)


def test_flags_json_may_hold_infinity_but_has_to_hold_flags(cwd):
    path = cwd / 'out' / 'a' / 'FLAGS.json'
    flags = json.loads(path.read_text())
    path.write_text(json.dumps({**flags, 'train_size': math.inf, 'z_dim': 9}))
    config, _ = settle('--train', '--out_name', 'a')
    assert config.train_size == math.inf and config.z_dim == 9
    for record, message in {
        '{"batch_size": "many"}': "FLAGS.json of the run: batch_size 'many': ",
        '{"epoch": null}': 'FLAGS.json of the run: epoch None: ',
        '[1]': './out/a/FLAGS.json: does not hold flags of a run (',
        '{': './out/a/FLAGS.json: does not hold flags of a run (',
    }.items():
        path.write_text(record)
        assert fails('--out_name', 'a', '--train').startswith(message)


def record(run_dir, **values):
    """Change what FLAGS.json of a run has."""
    path = run_dir / 'FLAGS.json'
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


@pytest.mark.parametrize(
    ('recorded', 'given', 'expected'),
    [
        ({'learning_rate_d': 0.1}, {'learning_rate': 1e-5}, {'learning_rate_d': None}),
        ({'learning_rate_g': 0.1}, {'learning_rate': 1e-5}, {'learning_rate_g': None}),
        ({'learning_rate': 0.1}, {'learning_rate_d': 1e-5}, {'learning_rate': 0.1}),
        ({'learning_rate_g': 0.1}, {'recipe': 'best'}, {'learning_rate_g': None}),
        ({'input_width': 9}, {'input_height': 8}, {'input_width': 8}),
        ({'output_width': 9}, {'output_height': 8}, {'output_width': 8}),
        (
            {'lr_schedule': 'step', 'lr_decay_epochs': '1', 'lr_decay_rate': 0.5},
            {'lr_schedule': 'constant'},
            {'lr_decay_epochs': '', 'lr_decay_rate': 0.1},
        ),
        ({'attributes': 'Male'}, {'labels': 'p.csv'}, {'attributes': ''}),
        ({'labels': 'none.csv'}, {'noconditional': ''}, {'labels': ''}),
    ],
)
def test_a_general_flag_that_is_given_beats_a_special_one_that_is_recorded(
    recorded, given, expected, cwd
):
    (cwd / 'p.csv').write_text('000.png,a\n001.png,b\n')
    record(cwd / 'out' / 'a', **recorded)
    args = [f'--{name}={value}'.removesuffix('=') for name, value in given.items()]
    config, _ = settle('--train', '--out_name', 'a', *args)
    assert {name: getattr(config, name) for name in expected} == expected


def test_a_given_rate_beats_the_recipe_that_the_run_has_recorded(cwd, train):
    write_idx_set(cwd / 'data' / 'set', count=8)
    args = ['--dataset', 'set', '--out_name', 'best']
    train(*args, '--recipe', 'best')
    for given, expected in ([], (0.0005, 0.001)), ([1e-5], (1e-5, None)):
        config, _ = settle('--train', *args, *(f'--learning_rate={x}' for x in given))
        assert (config.learning_rate, config.learning_rate_d) == expected
        assert config.ema == 0.999


LABELS = {'beside the images': 'data/p/p.csv', 'in the working folder': 'p.csv'}
LABELS |= {'above the images': 'data/p.csv', 'elsewhere': '../elsewhere/p.csv'}


@pytest.mark.parametrize('place', LABELS)
def test_labels_are_those_that_the_run_has_found(
    place, cwd, train, monkeypatch, tmp_path_factory, capsys
):
    path = Path(os.path.abspath(LABELS[place]))
    path.parent.mkdir(exist_ok=True)
    path.write_text('000.png,a\n001.png,b\n')
    given = path if place == 'elsewhere' else 'p.csv'
    train('--dataset', 'p', '--out_name', 'labelled', '--labels', given)
    kept = json.loads((cwd / 'out' / 'labelled' / 'FLAGS.json').read_text())
    near = {'beside the images': 'p.csv', 'above the images': '../p.csv'}
    assert kept['labels'] == near.get(place, str(path))
    other = tmp_path_factory.mktemp('other')
    write_images(other / 'data' / 'p', count=1)
    (other / 'p.csv').write_text('000.png,c\n001.png,d\n')
    (other / 'data' / 'p' / 'p.csv').write_text('000.png,e\n001.png,f\n')
    for folder in cwd, other:
        monkeypatch.chdir(folder)
        capsys.readouterr()
        config, _ = settle(
            '--train', '--out_name', 'labelled', '--out_dir', cwd / 'out'
        )
        assert config.labels == kept['labels']
        assert os.path.samefile(config.data_dir, cwd / 'data')
        (line,) = re.findall(r' \[\*\] Labels: (.*)', capsys.readouterr().out)
        assert os.path.samefile(line, path)


def test_labels_of_an_older_run_are_looked_up_beside_the_images_first(cwd, capsys):
    record(cwd / 'out' / 'a', labels='p.csv', data_dir='./data')
    args = ['--train', '--out_name', 'a']
    for path, classes in {'p.csv': 2, './data/p/p.csv': 3}.items():
        rows = [f'{i:03}.png,{i}\n' for i in range(classes)]
        (cwd / path).write_text(''.join(rows))
        assert settle(*args)[1].y_dim == classes
        assert f' [*] Labels: {path}\n' in capsys.readouterr().out
    assert settle(*args, '--labels', 'p.csv')[1].y_dim == 2  # as it is given
    assert ' [*] Labels: p.csv\n' in capsys.readouterr().out


def test_a_data_set_can_be_moved_with_its_labels(cwd, train):
    for place, moved in ('data/p/p.csv', 'sets'), ('sets/p.csv', 'others'):
        data_dir = place.partition('/')[0]
        (cwd / place).write_text('000.png,a\n001.png,b\n')
        flags = ['--dataset', 'p', '--data_dir', data_dir, '--labels', 'p.csv']
        train(*flags, '--out_name', moved)
        (cwd / data_dir).rename(cwd / moved)
        (cwd / 'p.csv').write_text('000.png,a\n001.png,b\n002.png,c\n')
        args = ['--train', '--out_name', moved, '--data_dir', moved]
        assert settle(*args)[1].y_dim == 2
        (cwd / moved / place.partition('/')[2]).unlink()
        (cwd / 'p.csv').unlink()


@pytest.mark.parametrize('name', ['data', 'back\\slash', 'two words', '..data', '\xe9'])
def test_a_folder_with_runs_and_data_can_be_moved(
    name, cwd, train, monkeypatch, tmp_path_factory
):
    (cwd / 'data').rename(cwd / name)
    train('--dataset', 'p', '--out_name', 'b', '--data_dir', name)
    for folder, out_dir in ('', 'out'), ('out', '.'), ('..', 'moved/out'):
        cwd = cwd.rename(tmp_path_factory.mktemp('new') / 'moved')
        monkeypatch.chdir(cwd / folder)
        config, _ = settle('--train', '--out_name', 'b', '--out_dir', out_dir)
        assert os.path.samefile(config.data_dir, cwd / name)


def test_data_folder_of_a_run_is_the_default_where_it_was_made(cwd):
    assert json.loads(Path('out/a/FLAGS.json').read_text())['data_dir'] == '../../data'
    assert settle('--train', '--out_name', 'a')[0].data_dir == './data'
    (cwd / 'out' / 'a').rename(cwd / 'b')  # alone
    args = ['--train', '--out_name', 'b', '--out_dir', '.']
    assert settle(*args)[0].data_dir == './data'
    (cwd / 'sets').mkdir()
    for older, found in {'.\\data': './data', 'sets': 'sets', '../x': './x'}.items():
        record(cwd / 'b', data_dir=older)
        assert settle(*args)[0].data_dir == found


def test_full_paths_of_data_are_recorded_as_such(cwd, train, tmp_path_factory):
    far = tmp_path_factory.mktemp('far')
    for data_dir, out_dir in (cwd / 'data', 'out'), ('data', far), (far, 'out'):
        write_images(cwd / data_dir / 'p', count=1)
        args = ['--data_dir', data_dir, '--out_dir', out_dir, '--out_name', 'full']
        train('--dataset', 'p', *args)
        kept = json.loads(Path(out_dir, 'full', 'FLAGS.json').read_text())
        assert kept['data_dir'] == str(cwd / data_dir)


def test_errors_tell_what_only_the_run_has_recorded(tiny_copy):
    for recorded, given, told in (
        ({'lr_schedule': 'step', 'lr_decay_epochs': '9'}, ['--epoch', 5], 2),
        (
            {'lr_schedule': 'step', 'lr_decay_epochs': '9'},
            ['--lr_schedule', 'linear'],
            0,
        ),
        ({'lr_schedule': 'step'}, ['--lr_decay_epochs', 'x'], 0),
        ({'labels': 'none\x1b.csv'}, [], 1),
        ({'labels': 'none.csv'}, ['--labels', 'none.csv'], 0),
        ({'attributes': 'a,b,c,d,e,f,g'}, [], 1),
    ):
        path = tiny_copy / 'out' / 'cats'
        record(path, **{'lr_schedule': 'constant', 'labels': '', 'lr_decay_epochs': ''})
        record(path, **{'attributes': '', 'epoch': 20, **recorded})
        args = ['--train', '--out_name', 'cats', *given]
        result = run_in_process(*args, cwd=tiny_copy)
        assert result.returncode == 1 and result.stderr.count('\n') == 1
        values = [f'--{name} {value}' for name, value in sorted(recorded.items())]
        note = f'; FLAGS.json of the run has {", ".join(values)}'.replace(
            '\x1b', '\\x1b'
        )
        assert (note in result.stderr) == (told > 0), result.stderr
        assert told or 'FLAGS.json' not in result.stderr


# Unfinished runs


def test_unfinished_run_of_these_settings_is_named(cwd, train, capsys):
    args = ['--dataset', 'p', '--out_dir', 'runs', '--epoch', 2]
    args += ['--learning_rate', 0.001, '--lr_schedule', 'step', '--lr_decay_epochs', 1]
    train(*args, '--out_name', 'my run')
    line = "unfinished, after 1 of 2 epochs: --out_name 'my run' continues it"
    settle('--train', *SMALL, *args)
    assert line in capsys.readouterr().out
    unlike = [
        ['--lr_decay_epochs', 0],
        ['--dataset', 'q'],
        ['--z_dim', 7],
        ['--learning_rate', 0.1],
    ]
    for changes in [*unlike, ['--epoch', 1], ['--d_dropout', 0.1]]:
        settle('--train', *SMALL, *args, *changes)
        assert 'is unfinished' not in capsys.readouterr().out, changes
    unlock = lock_run('runs/my run', '')  # it is being trained
    settle('--train', *SMALL, *args)
    assert 'is unfinished' not in capsys.readouterr().out
    unlock()


# Folders that cannot be written


def test_folder_that_cannot_be_written_names_its_flag(cwd):
    file = cwd / 'file'
    file.touch()
    for *args, flag, folder in (
        ['--train', '--dataset', 'p', '--out_dir', 'file/out'],
        ['--train', '--dataset', 'p', '--sample_dir', file],
        ['--train', '--dataset', 'p', '--checkpoint_dir', file],
        ['--train', '--dataset', 'digits', '--data_dir', 'file'],
        ['--dataset', 'p', '--sample_dir', file / 'samples'],
        ['--out_name', 'a', '--visualize', '--sample_dir', file],
    ):
        message = fails(*args, flag, folder)
        assert 'cannot be written (' in message, args
        assert f'choose another {flag}' in message, args


def test_a_data_set_whose_folder_is_missing_is_recognized_by_its_name(tmp_path):
    run = Run(str(tmp_path), {})
    run.recorded = {'data_dir': '/elsewhere', 'dataset': 'set'}
    assert run.is_of(str(tmp_path), 'set') and not run.is_of(str(tmp_path), 'other')
    (tmp_path / 'set').mkdir()
    assert not run.is_of(str(tmp_path), 'set')


def test_folders_in_a_run_are_recorded_as_paths_from_there(tmp_path):
    inside, outside = f'{tmp_path}/checkpoint', '/elsewhere'
    flags = {'out_dir': str(tmp_path), 'checkpoint_dir': inside, 'sample_dir': outside}
    flags['data_dir'] = './data'
    write_flags(str(tmp_path), flags)
    recorded = read_flags(str(tmp_path))
    assert recorded['checkpoint_dir'] == 'checkpoint'
    assert recorded['sample_dir'] == outside
