"""Tables that other programs have saved: lists of labels, CelebA's lists, metrics."""

import json
import math
import os
import random
import re
import unicodedata
from types import SimpleNamespace

import numpy as np
import pytest
from conftest import bounded, write_images

from dcgan.data.celeba import in_partition, read_list
from dcgan.data.labels import Classes, class_names_in, read_labels
from dcgan.data.names import match_rows
from dcgan.record.curves import in_bins, smooth
from dcgan.record.metrics_csv import COLUMNS, MetricsFile, read_rows
from dcgan.runs.run import Run, number_labels
from dcgan.util.errors import UserError

LABELS = {'a.jpg': 'cat', 'b.jpg': 'guinea pig', 'c.jpg': 'cat'}
ROWS = 'a.jpg,cat\nb.jpg,guinea pig\nc.jpg,cat\n'


# Reading


@pytest.mark.parametrize(
    'text',
    [
        ROWS,
        ROWS.replace(',', ';'),
        ROWS.replace(',', '\t'),
        ROWS.replace(',', ' | '),
        'a.jpg, "cat"\n"b.jpg" , "guinea pig"\nc.jpg,cat',
        "'a.jpg','cat'\n'b.jpg','guinea pig'\n'c.jpg','cat'",
        'sep=;\n' + ROWS.replace(',', ';'),
        'sep=;\nFoto;Klasse\n' + ROWS.replace(',', ';'),
        'Our animals,\n,\nfile,label\n' + ROWS,
        'file,label,\na.jpg,cat,\nb.jpg,guinea pig,blurred\nc.jpg,cat,\n',
        ROWS.replace('b.jpg', '\ufeffb.jpg'),
        'a.jpg cat\nb.jpg "guinea pig"\nc.jpg   cat\n',
        'image_name,category_id\n' + ROWS,
        'Foto;Klasse;;\n' + ROWS.replace(',', ';').replace('\n', ';;\n'),
        ',image,label\n0,a.jpg,cat\n1,b.jpg,guinea pig\n2,c.jpg,cat\n',
        '0,a.jpg,cat\n1,b.jpg,guinea pig\n2,c.jpg,cat\n',
        'label,width,file\ncat,8,a.jpg\nguinea pig,9,b.jpg\ncat,8,c.jpg\n',
        'cat,a.jpg\nguinea pig,b.jpg\ncat,c.jpg\n',
        '\n\n' + ROWS.replace('\n', '\r\n\r\n'),
        ROWS.replace('\n', '\r'),
    ],
)
@pytest.mark.parametrize('encoding', ['utf-8', 'utf-8-sig', 'utf-16', 'utf-16-le'])
def test_lists_of_labels_are_read_whatever_saved_them(text, encoding, tmp_path):
    path = tmp_path / 'l.csv'
    path.write_bytes(text.encode(encoding))
    assert read_labels(str(path)) == LABELS


@pytest.mark.parametrize('head', ['file_name', 'ImageId', 'image name', 'id', 'Path'])
def test_images_without_extensions_are_found_by_the_words_of_a_header(head, tmp_path):
    (tmp_path / 'l.csv').write_text(f'label,{head}\ncat,a\ndog,b\n')
    assert read_labels(str(tmp_path / 'l.csv')) == {'a': 'cat', 'b': 'dog'}


def test_commas_and_quotes_in_names_are_no_separators(tmp_path):
    path = tmp_path / 'l.csv'
    path.write_text("'a, b.jpg\tcat\nb, c.jpg\tdog's\n")
    assert read_labels(str(path)) == {"'a, b.jpg": 'cat', 'b, c.jpg': "dog's"}


def test_letters_are_read_in_the_code_page_of_excel(tmp_path):
    path = tmp_path / 'l.csv'
    for encoding in ('cp1252', 'utf-8'):
        path.write_bytes('Käfer.jpg;Käfer\nb.jpg;Löwe\n'.encode(encoding))
        assert read_labels(str(path)) == {'Käfer.jpg': 'Käfer', 'b.jpg': 'Löwe'}


def test_one_label_in_two_spellings_is_one(tmp_path):
    path = tmp_path / 'l.csv'
    both = [unicodedata.normalize(form, 'Käfer') for form in ('NFC', 'NFD')]
    path.write_text(f'a.jpg,{both[0]}\nb.jpg,{both[1]}\nc.jpg,x\n', encoding='utf-8')
    assert len({*read_labels(str(path)).values()}) == 2
    assert number_labels(both[1], ['x', both[0]]) == '1'


@pytest.mark.parametrize(
    'text, row',
    [
        ('a.jpg,cat\nb.jpg\n', "row 2, 'b.jpg'"),
        ('a.jpg;cat\nb.jpg;dog\nc.jpg;cow;red\n', "row 3, 'c.jpg;cow;red'"),
        ('a.jpg\tcat\nb.jpg\t\n', "row 2, 'b.jpg"),
        ('file,size,color\na.jpg,1,red\nb.jpg,2,red\n', "row 2, 'a.jpg,1,red'"),
        ('a.jpg,cat\n"' + 'b.jpg,dog\n' * 20000, "after row 1, 'a.jpg,cat'"),
        ('a.jpg,cat\n"b.jpg,dog\n', r"row 2, 'b.jpg,dog'"),
    ],
)
def test_the_row_that_cannot_be_read_is_shown_as_it_is(text, row, tmp_path):
    (tmp_path / 'l.csv').write_text(text)
    with pytest.raises(UserError, match=rf'l\.csv: .*{row}') as error:
        read_labels(str(tmp_path / 'l.csv'))
    assert '\n' not in str(error.value)


TXT = '3\nMale Young\n1.jpg -1  1\n2.jpg  1 -1\n3.jpg  1  1 \n'
CSV = 'image_id,Male,Young\n1.jpg,-1,1\n2.jpg,1,-1\n3.jpg,1,1\n'


@pytest.mark.parametrize(
    'text',
    [
        TXT,
        TXT.replace('\n', '\r\n'),
        TXT.replace('  ', ' ').replace(' ', '\t').replace('\n', '\n\n'),
        CSV,
        CSV.replace(',', ';'),
        CSV.replace('image_id,Male,Young', 'Foto,Male,Young'),
        'Young,image_id,Male\n1,1.jpg,-1\n-1,2.jpg,1\n1,3.jpg,1\n',
        ',image_id,Young,Male\n0,1.jpg,1,-1\n1,2.jpg,-1,1\n2,3.jpg,1,1\n',
        CSV.replace('.jpg', ''),
        CSV.replace('1\n', '1.0\n').replace('-1,', '-1.0,'),
        re.sub('[^,\n]+', r' "\g<0>"', CSV),
        # saved by Excel, which fills each row
        '3;;\nMale;Young;\n' + CSV.replace(',', ';').partition('\n')[2],
        'From CelebA,,\n' + CSV,
    ],
)
@pytest.mark.parametrize('encoding', ['utf-8-sig', 'utf-16'])
def test_lists_of_celeba_are_read_whatever_saved_them(text, encoding, tmp_path):
    (tmp_path / 'list_attr_celeba.txt').write_bytes(text.encode(encoding))
    rows = read_list('list_attr_celeba.txt', str(tmp_path), ['Young', 'Male'], True)
    assert {name[0]: row for name, row in rows.items()} == {
        '1': (1, -1),
        '2': (-1, 1),
        '3': (1, 1),
    }


def test_a_list_of_one_attribute_may_have_no_name_for_images(tmp_path):
    (tmp_path / 'list_attr_celeba.csv').write_text(',Male\n1.jpg,1\n2.jpg,-1\n')
    rows = read_list('list_attr_celeba.txt', str(tmp_path), ['Male'], True)
    assert rows == {'1.jpg': (1,), '2.jpg': (-1,)}


def test_boxes_are_read_by_the_names_of_their_columns(tmp_path):
    for text in (
        '1\nimage_id x_1 y_1 width height\n1.jpg 1 2 3 4\n',
        ';image_id;height;width;y_1;x_1\n0;1.jpg;4;3;2;1\n',
        '1.jpg 1 2 3 4\n',
    ):
        (tmp_path / 'list_bbox_celeba.txt').write_text(text)
        box = ['x_1', 'y_1', 'width', 'height']
        rows = read_list('list_bbox_celeba.txt', str(tmp_path), box)
        assert rows == {'1.jpg': (1, 2, 3, 4)}


# Names


def match(files, names, folder='data/set'):
    """The number of the row of each image."""
    rows = {name: i for i, name in enumerate(names)}
    return match_rows([f'{folder}/{file}' for file in files], folder, rows, 'l.csv')


@pytest.mark.parametrize(
    'file, name',
    [
        ('a.jpg', './a.jpg'),
        ('a.JPG', 'a.jpg'),
        ('a.jpg', 'A.Jpeg'),
        ('a.png', 'a'),
        ('IMG.v2.webp', 'img.v2'),
        ('b/a.jpg', 'b\\a.jpg'),
        ('b/a.jpg', 'a.jpg'),
        ('b/a.jpg', 'b//c/../a.jpg'),
        (unicodedata.normalize('NFD', 'é/ü.jpg'), 'é/ü.jpg'),
        ('ü.jpg', unicodedata.normalize('NFD', 'Ü.JPG')),
        ('\udce9.jpg', 'é.jpg'),
        ('at 3.04\u202fPM.png', 'at 3.04 PM.png'),  # a screenshot of macOS
        ('a\xa0b.jpg', 'a b.jpg'),
        ('\uff11\uff12.jpg', '12.jpg'),
        ('my photo.jpg', 'my%20photo.jpg'),
        ('100%.jpg', '100%25'),
        (' a.jpg', 'a.jpg'),
    ],
)
def test_a_name_is_the_same_in_each_spelling(file, name, capsys):
    assert match([file, 'other.jpg'], ['other.jpg', name]) == [1, 0]
    assert capsys.readouterr().out == ''


def test_full_paths_under_the_set_match(tmp_path, capsys):
    (tmp_path / 'link').symlink_to(tmp_path)
    names = [tmp_path / 'x.jpg', tmp_path / 'a' / 'x.jpg']
    for folder in (str(tmp_path), str(tmp_path / 'link')):
        assert match(['a/x.jpg', 'x.jpg'], map(str, names), folder) == [1, 0]
    assert capsys.readouterr().out == ''


def test_full_paths_to_which_links_in_the_set_lead_match(tmp_path, capsys):
    for name in ('felines', 'k9/deep'):
        (tmp_path / 'far' / name).mkdir(parents=True)
    (tmp_path / 'set').mkdir()
    (tmp_path / 'set' / 'cats').symlink_to(tmp_path / 'far' / 'felines')
    (tmp_path / 'set' / 'dogs').symlink_to(tmp_path / 'far' / 'k9')
    files = ['cats/x.jpg', 'dogs/deep/x.jpg', 'y.jpg']
    names = [f'{tmp_path}/far/{x}' for x in ('felines/x.jpg', 'k9/deep/x.JPG')]
    names += ['y.jpg', '/none\0/x.jpg', '/' + 999 * 'x/']
    assert match(files, names, str(tmp_path / 'set')) == [0, 1, 2]
    assert '2 of 5 rows have no image, such as /none' in capsys.readouterr().out


@pytest.mark.parametrize(
    'prefix',
    [
        '/content/drive/MyDrive/set/',
        'C:\\Users\\me\\set\\',
        '\\\\server\\share\\',
        'file:///home/me/',
        '../set/',
        'gs://bucket/set/',
        'data/set/',
    ],
)
def test_paths_of_another_machine_match_by_their_ends(prefix, capsys):
    separator = '\\' if '\\' in prefix else '/'
    names = [f'{prefix}{name}' for name in ('x.jpg', f'a{separator}x.jpg', 'y.JPG')]
    assert match(['a/x.jpg', 'x.jpg', 'y.jpg'], names) == [1, 0, 2]
    out = capsys.readouterr().out
    assert out.count('\n') == 1 and 'match by their ends only: ' in out
    assert ' is data/set/a/x.jpg' in out


@pytest.mark.parametrize(
    'files, names, both',
    [
        (['a/x.jpg', 'b/x.jpg'], ['x.jpg'], 'x.jpg may be a/x.jpg or b/x.jpg'),
        (['a/x.jpg', 'b/x.png'], ['x'], 'x may be a/x.jpg or b/x.png'),
        (['x.JPG', 'X.jpg'], ['x.jpg'], 'x.jpg may be x.JPG or X.jpg'),
        (['x.webp'], ['x.jpg', 'x.png'], 'x.webp may be x.jpg or x.png'),
        (['x.jpg'], ['/m/a/x.jpg', '/m/b/x.jpg'], 'x.jpg may be /m/a/x.jpg or /m/b'),
        (['x.jpg'], ['./x.jpg', 'x.jpg'], 'x.jpg may be ./x.jpg or x.jpg'),
    ],
)
def test_a_name_that_may_be_two_things_is_an_error_that_names_both(files, names, both):
    with pytest.raises(UserError, match=f'^l.csv: {both}'):
        match(files, names)


def test_case_and_extension_count_where_both_exist():
    assert match(['x.JPG', 'X.jpg', 'x.png'], ['x.png', 'x.JPG', 'X.jpg']) == [1, 2, 0]
    assert match(['a/x.jpg', 'b/x.jpg'], ['b/x.jpg', 'a/x.jpg']) == [1, 0]
    assert match(['x.jpg', 'b/x.jpg'], ['x.jpg']) == [0, None]


def test_what_is_left_out_is_counted_and_shown_on_both_sides(tmp_path, capsys):
    match(['a.jpg', 'b.jpg', 'c.jpg'], ['a.jpg', 'x.jpg'])
    text = '2 of 3 images have no row in l.csv, such as b.jpg; 1 of 2 rows have no '
    text += 'image, such as x.jpg'
    assert capsys.readouterr().out == f' [!] data/set: {text}\n'
    with pytest.raises(UserError, match='1 of 1 images .* a.jpg; 1 of 1 rows .* z.jpg'):
        match(['a.jpg'], ['z.jpg'])
    write_images(tmp_path / 'set', count=2)
    (tmp_path / 'l.csv').write_text('000.png,1\n001.png,2\n002.png,1\n')
    classes = Classes(str(tmp_path / 'set'), labels=str(tmp_path / 'l.csv'))
    classes.of([str(tmp_path / 'set' / f'00{i}.png') for i in range(2)])
    assert '1 of 3 rows have no image, such as 002.png' in capsys.readouterr().out


@pytest.mark.parametrize('prefix', ['', 'C:\\set\\', '/content/set/'])
def test_lists_of_celeba_match_as_labels_do(prefix, tmp_path):
    files = [f'{tmp_path}/00{i}.JPG' for i in range(3)]
    rows = [f'{prefix}00{i}.jpg {i}\n' for i in range(3)]
    (tmp_path / 'list_eval_partition.txt').write_text(''.join(rows))
    assert in_partition(files, 'val', str(tmp_path)) == files[1:2]


# Metrics


def values(count):
    """Rows of COLUMNS, of iterations from 1."""
    rows = [[i + 1, 0, i, i / 2, *[0.25 + i, *10 * [0.5]]] for i in range(count)]
    return np.array(rows)


def as_csv(rows, names=COLUMNS, separator=',', end='\n', decimal='.'):
    cells = [[f'{x:.8g}'.replace('.', decimal) for x in row] for row in rows.tolist()]
    return ''.join(separator.join(row) + end for row in [names, *cells])


GERMAN = as_csv(values(5), separator=';', end='\r\n', decimal=',')
KEPT = {
    'of Excel': GERMAN.encode('utf-8-sig'),
    'of Excel, as Unicode text': GERMAN.replace(';', '\t').encode('utf-16'),
    'with quotes': re.sub('[^,\n]+', r'"\g<0>"', as_csv(values(5))).encode(),
    'with other columns': as_csv(
        np.c_[values(5), np.zeros(5)][:, ::-1], ['more', *COLUMNS[::-1]]
    ).encode(),
    'without a header': as_csv(values(5)).partition('\n')[2].encode(),
    'sorted by a column': as_csv(values(5)[[3, 0, 4, 2, 1]]).encode(),
    'joined': (
        as_csv(values(2) + np.eye(len(COLUMNS))[4]) + as_csv(values(5))
    ).encode(),
    'with an index': as_csv(np.c_[np.arange(5), values(5)], ['', *COLUMNS]).encode(),
}


@pytest.mark.parametrize('name', KEPT)
def test_metrics_of_other_programs_are_kept_on_resume(name, tmp_path, capsys):
    path = tmp_path / 'metrics.csv'
    path.write_bytes(KEPT[name])
    metrics = MetricsFile(str(tmp_path), 4)
    metrics.close()
    assert metrics.seconds == 1.5
    assert (read_rows(str(path)) == values(4)).all()
    assert path.read_text().startswith(f'{",".join(COLUMNS)}\n1,0,0,0.000,0.25,')
    assert 'another program has changed it: 5 rows are read' in capsys.readouterr().out
    assert (tmp_path / 'metrics.csv.old').read_bytes() == KEPT[name]


BAD = {  # changes of a text: rows that are left of 5
    '\n3,': '\n\n3,',
    '\n3,0': '\n3,x',
    '\n3,0,2,1': '\n3,0,2,#VALUE!',
    '\n2,0,1,0.5,1.25': '\n2,0,1,0.5,',
    '\n3,0,2': '\n"3","0","2"',
}


@pytest.mark.parametrize('old', BAD)
def test_a_value_that_cannot_be_read_makes_no_other_vanish(old, tmp_path):
    path = tmp_path / 'metrics.csv'
    path.write_text(as_csv(values(5)).replace(old, BAD[old], 1))
    MetricsFile(str(tmp_path), 5).close()
    rows = read_rows(str(path))
    assert rows[:, 0].tolist() == [1, 2, 3, 4, 5]
    assert (rows == values(5)).sum() >= 5 * len(COLUMNS) - 1


@pytest.mark.parametrize(
    'bad', ['x\n', 'x,0,2,1\n', '\xe9\n', '"\n', '-1,0,0,0\n', '"1,234",0,2,1\n']
)
def test_rows_that_cannot_be_read_are_kept_aside_and_said(bad, tmp_path, capsys):
    path = tmp_path / 'metrics.csv'
    for name in ('metrics.csv.old', 'metrics.csv.old2'):
        text = as_csv(values(3)) + bad + as_csv(values(5)).splitlines(True)[4]
        path.write_text(text)
        MetricsFile(str(tmp_path), 5).close()
        assert (tmp_path / name).read_text() == text
        out = capsys.readouterr().out
        assert f'rows are read; {tmp_path / name} is the file as it was\n' in out
        assert read_rows(str(path))[:3, 0].tolist() == [1, 2, 3]
        assert read_rows(str(path))[-1, 0] == (3 if bad == '"\n' else 4)
    assert capsys.readouterr().out == ''


def test_what_is_no_table_of_metrics_is_kept_aside(tmp_path):
    for number, content in enumerate(
        [b'\x89PNG\r\n\0\0', b'PK\3\4' * 99, b'a,b\n1,2\n']
    ):
        (tmp_path / 'metrics.csv').write_bytes(content)
        MetricsFile(str(tmp_path), 5).close()
        (old,) = tmp_path.glob('metrics.csv.old' + (f'{number + 1}' if number else ''))
        assert old.read_bytes() == content
        assert len(read_rows(str(tmp_path / 'metrics.csv'))) == 0


def test_a_whole_last_row_without_an_end_of_line_is_kept(tmp_path):
    (tmp_path / 'metrics.csv').write_text(as_csv(values(5)).rstrip())
    MetricsFile(str(tmp_path), 5).close()
    assert (read_rows(str(tmp_path / 'metrics.csv')) == values(5)).all()
    assert [path.name for path in tmp_path.iterdir()] == ['metrics.csv']


def test_older_columns_are_read_by_their_names(tmp_path):
    names = ['iteration', 'd_loss', 'g_loss']
    places = [COLUMNS.index(name) for name in names]
    (tmp_path / 'metrics.csv').write_text(as_csv(values(3)[:, places], names))
    rows = read_rows(str(tmp_path / 'metrics.csv'))
    assert (rows[:, places] == values(3)[:, places]).all()
    assert not rows[:, 1:4].any() and np.isnan(rows[:, 5]).all()


@pytest.mark.parametrize('bad', [math.nan, math.inf, -math.inf])
def test_curves_go_on_after_values_that_are_not_finite(bad):
    line = np.linspace(1, 2, 7000)
    gaps = line.copy()
    gaps[[0, 3000, 6999]] = bad
    gaps[4000:4008] = bad  # two bins
    (means, lows, highs), expected = in_bins(gaps), in_bins(line)
    is_gap = np.isnan(means)
    assert is_gap.sum() == 2 and (np.isnan(lows) == is_gap).all()
    assert means[~is_gap] == pytest.approx(expected[0][~is_gap], abs=1e-3)
    assert highs[~is_gap].max() <= 2
    assert smooth(means)[20:-20] == pytest.approx(smooth(expected[0])[20:-20], abs=1e-3)
    assert np.isnan(smooth(np.full(9, bad))).all()


# Names of classes


NAMES = ['a\nb', 'c\u2028d', 'e\x85f', 'g\x0ch', 'ÿ', '["x"]', '7', ' ', 'i\r']


def test_names_of_classes_may_hold_any_letter(tmp_path):
    run = Run(str(tmp_path / 'run'), {})
    config = SimpleNamespace(label='', labels='', data_dir='data')
    run.settle(config)
    for _ in range(2):
        run.start(config, NAMES)
        (tmp_path / 'run' / 'checkpoint' / 'model-1.index').touch()
        assert class_names_in(run.folder) == NAMES
    with pytest.raises(UserError, match='has learned the classes a b, '):
        run.start(config, NAMES[1:])
    run.close()


def test_older_files_of_classes_are_read(tmp_path):
    (tmp_path / 'classes.txt').write_bytes(os.fsencode('\n'.join(NAMES[1:])))
    assert class_names_in(str(tmp_path)) == NAMES[1:]
    for text in (b'a b\nc\n', b'a b\r\nc', b'a b\r\nc\r\n'):
        (tmp_path / 'classes.txt').write_bytes(text)
        assert class_names_in(str(tmp_path)) == ['a b', 'c']
    (tmp_path / 'classes.json').write_text('[1, {')
    with pytest.raises(UserError, match=r'classes\.json: cannot be read'):
        class_names_in(str(tmp_path))


# Anything


@pytest.mark.parametrize('part', [';', 'a ', '1,', '"",', 'a.jpg|'])
def test_a_line_of_many_cells_takes_little_memory_and_time(part, tmp_path):
    (tmp_path / 'metrics.csv').write_text(f'iteration,{part * 10_000_000}')
    with bounded():
        assert read_rows(str(tmp_path / 'metrics.csv')).shape == (0, len(COLUMNS))
        with pytest.raises(UserError, match='csv: not a list of labels .after row 0,'):
            read_labels(str(tmp_path / 'metrics.csv'))


def mutated(content, rng):
    """Bytes with some cut, doubled, exchanged or replaced."""
    for _ in range(rng.randint(1, 6)):
        a, b = sorted(rng.randrange(len(content) + 1) for _ in range(2))
        b = min(b, a + rng.choice([1, 2, 8, 99]))
        others = [b'', content[a:b] * 2, rng.randbytes(b - a), b'9' * 5000, b'\xff\xfe']
        new = rng.choice(
            [*others, *b'" ; , - nan 1e999 ../ \n'.split(b' '), b'\0', b'\r']
        )
        content = content[:a] + new + content[b:]
    return rng.choice([content, content, content.decode('latin-1').encode('utf-16')])


READERS = {
    'labels': (ROWS, 'l.csv', lambda folder: Classes(folder, labels='l.csv')),
    'txt': (TXT, 'list_attr_celeba.txt', lambda folder: Classes(folder, 'Male,Young')),
    'csv': (CSV, 'list_attr_celeba.csv', lambda folder: Classes(folder, 'Young')),
    'metrics': (as_csv(values(9)), 'metrics.csv', lambda f: MetricsFile(f, 5).close()),
    'classes': (json.dumps(NAMES), 'classes.json', class_names_in),
    'older classes': ('a\nb\n', 'classes.txt', class_names_in),
}


@pytest.mark.slow
@pytest.mark.parametrize('name', READERS)
def test_any_table_is_read_or_refused_by_one_line(name, tmp_path):
    (text, file, read), rng = READERS[name], random.Random(0)
    (tmp_path / file).touch()
    for _ in range(2000):
        content = mutated(text.encode('utf-8', 'backslashreplace'), rng)
        (tmp_path / file).write_bytes(content)
        try:
            with bounded():
                result = read(str(tmp_path))
                if isinstance(result, Classes):
                    result.of([f'{tmp_path}/{x}.jpg' for x in 'abc123'])
        except UserError as error:
            assert file[:4] in str(error) or str(tmp_path) in str(error), content
            assert '\n' not in str(error), content
        for old in tmp_path.glob('metrics.csv.old*'):
            old.unlink()
