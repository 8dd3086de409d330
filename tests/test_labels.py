"""Classes of images by CelebA's attributes and by CSV files, on the command line."""

import json
import unicodedata

import numpy as np
import pytest
from conftest import SMALL, read_checkpoint, run_in_process, write_images

from dcgan.data.dataset import open_dataset
from dcgan.runs.run import number_labels
from dcgan.util.errors import UserError
from dcgan.util.files import stem

TRAIN = ['--train', '--dataset', 'faces', *SMALL, '--epoch', 1, '--sample_freq', 99]
CLASSES = ['none', 'Male', 'Smiling', 'Male+Smiling']


@pytest.fixture
def workspace(tmp_path):
    """A folder with the images data/faces, and the list of their attributes.

    Images of odd numbers have the attribute Male, every third one has Smiling.
    """
    write_images(tmp_path / 'data' / 'faces', count=24, ending='jpg')
    rows = ['24', '5_o_Clock_Shadow Male Smiling Young ']
    for i in range(24):
        rows.append(f'{i:03d}.jpg  1  {1 if i % 2 else -1}  {-1 if i % 3 else 1}  -1')
    (tmp_path / 'data' / 'list_attr_celeba.txt').write_text('\n'.join([*rows, '']))
    return tmp_path


def open_labelled(workspace, **options):
    folder = str(workspace / 'data' / 'faces')
    np.random.seed(0)
    return open_dataset(
        folder, None, (8, 8), (8, 8), False, False, by_class=True, **options
    )


def numbers(dataset):
    """{number in the name of an image: its label}"""
    return {int(stem(f)): x for f, x in zip(dataset.files, dataset.labels.tolist())}


@pytest.mark.parametrize('is_csv', [False, True])
def test_combinations_of_attributes_are_classes(is_csv, workspace):
    if is_csv:  # as it is passed round
        path = workspace / 'data' / 'list_attr_celeba.txt'
        _, head, *rows = path.read_text().splitlines()
        lines = [f'image_id {head}', *rows]
        text = '\n'.join(','.join(line.split()) for line in lines)
        path.rename(path.with_suffix('.csv')).write_text(text)
    dataset = open_labelled(workspace, attributes='Male, Smiling')
    assert dataset.class_names == CLASSES
    assert numbers(dataset) == {i: i % 2 + 2 * (i % 3 == 0) for i in range(24)}
    counts = '8 none, 8 Male, 4 Smiling, 4 Male+Smiling'
    assert dataset.contents == f'24 images: {counts}'


def test_attributes_train_and_are_chosen_by_name(workspace):
    args = [*TRAIN, '--attributes', 'Male,Smiling', '--out_name', 'run']
    result = run_in_process(*args, cwd=workspace)
    assert result.returncode == 0, result.stderr
    assert '24 images: 8 none, 8 Male, 4 Smiling, 4 Male+Smiling' in result.stdout
    out = workspace / 'out' / 'run'
    weights = read_checkpoint(out / 'checkpoint')
    assert weights['generator/g_h0_lin/Matrix'].shape[0] == 6 + 4
    assert json.loads((out / 'FLAGS.json').read_text())['attributes'] == 'Male,Smiling'
    use = ['--out_name', 'run', '--npz', '--generate_test_images', 5, '--label']
    result = run_in_process(*use, 'Male+Smiling,1', cwd=workspace)
    assert result.returncode == 0, result.stderr
    (npz,) = (out / 'samples').glob('*.npz')
    assert np.load(npz)['labels'].tolist() == [3, 1, 3, 1, 3]
    result = run_in_process(*use, 'male', cwd=workspace)
    assert result.returncode == 1 and result.stderr == (
        'main.py: --label male: the classes of this model are none (0), Male (1), '
        'Smiling (2), Male+Smiling (3)\n'
    )
    others = ['--attributes', 'Smiling,Male', '--epoch', 2]
    result = run_in_process(*args, *others, cwd=workspace)
    assert 'has learned the classes none, Male' in result.stderr
    assert json.loads((out / 'classes.json').read_text()) == CLASSES
    result = run_in_process('--train', '--out_name', 'run', '--epoch', 2, cwd=workspace)
    assert 'in epoch 1, batch 0' in result.stdout and '8 none, 8 Male' in result.stdout


def test_images_without_a_row_in_a_csv_file_are_left_out(workspace, capsys):
    rows = [f'{i:03d}.jpg,{"cat" if i % 2 else "guinea pig"}' for i in range(20)]
    (workspace / 'data' / 'pets.csv').write_text('\n'.join(['name,label', *rows]))
    dataset = open_labelled(workspace, labels='pets.csv')
    assert '4 of 24 images have no row in ' in capsys.readouterr().out
    assert dataset.contents == '20 images: 10 cat, 10 guinea pig'
    assert dataset.class_names == ['cat', 'guinea pig']


def test_csv_files_of_many_kinds_are_read(workspace):
    for rows in (
        '000.jpg,10\n001.jpg,9\n002.jpg,10\n',
        'image_id,class\r\n000,10\r\n001,9\r\n002,10\r\n',
        '"000.jpg","10"\n./001.jpg, 9\n\n002.jpg,10',
        'image_name,label\n000.jpg,10\n001.jpg,9\n002.jpg,10',
        '\ufeff000.jpg,10\n001.jpg,9\n002.jpg,10\nnone.jpg,9\n',
    ):
        (workspace / 'data' / 'faces' / 'l.csv').write_text(rows, encoding='utf-8')
        dataset = open_labelled(workspace, labels='l.csv')
        assert dataset.class_names == ['9', '10']  # numbers in their order
        assert numbers(dataset) == {0: 1, 1: 0, 2: 1}, rows


def test_csv_names_images_in_folders(workspace):
    for name in 'ab':
        write_images(workspace / 'data' / 'faces' / name, count=2)
    rows = ['a/000.png,x', 'a/001.png,y', 'b/000.png,y', 'b/001.png,x']
    (workspace / 'data' / 'l.csv').write_text('\n'.join(rows))
    dataset = open_labelled(workspace, labels='l.csv')
    assert dataset.labels.tolist() == [0, 1, 1, 0]


@pytest.mark.parametrize('prefix', ['', '/content/drive/MyDrive/set/', 'C:\\set\\'])
def test_folders_of_a_mac_and_of_other_machines_are_found(prefix, workspace):
    mac = unicodedata.normalize('NFD', 'é')
    for name in (mac, 'B'):
        write_images(workspace / 'data' / 'faces' / name, count=2)
    rows = ['é/000.jpg,x', 'é\\001.png,y', 'b/000.png,y', 'B/001.PNG,x']
    text = '\n'.join(prefix + row for row in rows)
    (workspace / 'data' / 'l.csv').write_text(text, encoding='utf-8')
    dataset = open_labelled(workspace, labels='l.csv')
    assert dataset.labels.tolist() == [1, 0, 0, 1] and len(dataset) == 4


def test_names_go_before_numbers_and_may_hold_commas():
    assert number_labels('2,a', ['2', 'a']) == '0,1'
    assert number_labels('a, b', ['a', 'a, b']) == '1'
    assert number_labels('7,1', []) == '7,1'


def test_lists_that_give_no_classes_are_refused(workspace):
    of_labels = {
        '000.jpg,1,2\n': r"row 1, '000.jpg,1,2'\); rows have to be name,label",
        '000.jpg,1\n001.jpg\n': 'row 2',
        '000.jpg,1\n000.jpg,2\n': '000.jpg has two labels',
        '000.jpg,1\n001.jpg,1\n': 'fewer than two labels',
        '000.jpg,1\nx.jpg,2\n': r'a class has no images \(1 images: 1 1, 0 2\)',
        '': 'fewer than two labels',
        'no/000.jpg,1\n001.jpg,2': r'a class has no images \(1 images: 0 1, 1 2\)',
    }
    of_attributes = {
        '3\nMale Smiling\n000.jpg 1\n': "not one of CelebA's lists",
        '1\nMale Smiling\n000.jpg 1 x\n': "not one of CelebA's lists",
        '1\nMale Smiling\n000.jpg 1 2\n': "not one of CelebA's lists",
        '3\n': 'truncated: 0 rows instead of 3',
        '3\nMale Smiling\n000.jpg 1 -1\n': 'truncated: 1 rows instead of 3',
    }
    for name, options, problems in (
        ('l.csv', {'labels': 'l.csv'}, of_labels),
        ('list_attr_celeba.txt', {'attributes': 'Male'}, of_attributes),
    ):
        for rows, problem in problems.items():
            (workspace / 'data' / name).write_text(rows)
            with pytest.raises(UserError, match=problem):
                open_labelled(workspace, **options)


def test_attributes_and_labels_that_cannot_be_used(workspace):
    problems = {
        '--attributes Smile': 'attr_celeba.txt has no Smile; it has Smiling',
        '--attributes Male --label male': 'are none (0), Male (1)',
        '--attributes Male,Male': 'give 1 to 6 different names',
        '--attributes Male --conditional': 'exclude each other',
        '--labels l.csv': '--labels l.csv: no such file',
    }
    for args, problem in problems.items():
        result = run_in_process(*TRAIN, *args.split(), cwd=workspace)
        assert result.returncode == 1 and problem in result.stderr
        assert result.stderr.count('\n') == 1 and not (workspace / 'out').exists()
