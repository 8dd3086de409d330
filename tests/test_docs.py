"""README and docs: links, lengths, flags in commands, and code that runs as pasted."""

import ast
import json
import re
import shlex
from importlib.util import find_spec

import pytest
from conftest import ROOT, pixels, run_code, run_in_process, write_idx_set, write_images
from test_layout import FLOORS

import main
from dcgan.data.digits import make_digits

PAGES = [ROOT / 'README.md', *sorted((ROOT / 'docs').glob('*.md'))]
COMMAND = re.compile(r'python ((?:main|download)\.py(?: (?:\\\n|[^`\n&<])+)?)')
RECIPES = COMMAND.findall((ROOT / 'docs' / 'recipes.md').read_text())
RECIPES = [command for command in RECIPES if '--train' in command]
TOUR = (ROOT / 'docs' / 'tour.ipynb').read_text()
CELLS = json.loads(TOUR)['cells']


@pytest.mark.smoke
def test_links_lead_somewhere():
    for page in PAGES:
        for target in re.findall(r'\]\(([^)\s]+)\)', page.read_text()):
            path, _, heading = target.partition('#')
            if '://' in path:
                continue
            linked = (page.parent / path).resolve() if path else page
            assert linked.exists(), (page, target)
            if heading:
                titles = re.findall(r'^#+ (.*)$', linked.read_text().lower(), re.M)
                anchors = [re.sub(r'[^\w -]', '', t).replace(' ', '-') for t in titles]
                assert heading in anchors, (page, target)


@pytest.mark.smoke
def test_readme_and_notebook_are_short():
    lines = (ROOT / 'README.md').read_text().splitlines()
    assert len(lines) <= 130
    assert all(len(line) <= 100 for line in lines if not line.startswith('|'))
    assert len(CELLS) < 25
    assert not any(cell.get('outputs') or cell.get('execution_count') for cell in CELLS)


@pytest.mark.smoke
def test_commands_have_flags_that_exist():
    options = set(re.findall(r"'--(\w+)'", (ROOT / 'download.py').read_text()))
    known = {'main.py': {*main.TABLE.table, 'help'}, 'download.py': {*options, 'help'}}
    texts = [page.read_text() for page in PAGES]
    texts += [''.join(cell['source']) for cell in CELLS]
    for command in COMMAND.findall('\n'.join(texts)):
        script, *args = shlex.split(command.replace('\\\n', ' '), comments=True)
        names = {a[2:].split('=')[0] for a in args if a.startswith('--')}
        assert names <= known[script], command
    assert len(RECIPES) == 8


@pytest.mark.slow
def test_the_notebook_runs_when_shortened(tmp_path):
    path = tmp_path / 'docs' / 'tour.ipynb'
    path.parent.mkdir()
    path.write_text(TOUR.replace('ITERATIONS = 750', 'ITERATIONS = 16'))
    for name in ('main.py', 'requirements.txt'):
        (tmp_path / name).symlink_to(ROOT / name)
    make_digits(str(tmp_path / 'data'), (1200, 200))
    code = 'import os; os.environ["HOME"] = os.getcwd()\n'
    code += 'from nbconvert.nbconvertapp import main; main()'
    result = run_code(code, '--execute', '--inplace', path, cwd=tmp_path)
    assert result.returncode == 0, result.stderr  # no cell has failed
    text = path.read_text()
    assert text.count('"image/png"') == 8 and 'The page has ended' in text
    assert 'main.py: ' not in text  # an error of a command


@pytest.mark.slow
def test_code_of_the_exports_page_draws_images(tmp_path):
    write_idx_set(tmp_path / 'data' / 'mnist', count=64, size=28, classes=10)
    args = ['--dataset', 'mnist', '--out_name', 'mnist', '--epoch', 1, '--train']
    args += ['--export', '--freeze', '--saved_model', '--onnx', '--tflite']
    assert run_in_process(*args, cwd=tmp_path).returncode == 0
    text = (ROOT / 'docs' / 'exports.md').read_text()
    blocks = re.findall(r'```python\n(.*?)```', text, re.DOTALL)
    blocks = [b for b in blocks if find_spec('torch') or 'torch' not in b]
    check = 'images = np.asarray(images); print(images.shape, images.min() >= 0)\n'
    same = "drawn = model.signatures['serving_default'](z=z.numpy(), y=y.numpy())\n"
    same += "assert np.allclose(images, drawn['images'], 0, 1e-5)\n"
    for has_tensorflow in (True, False):
        parts = [b for b in blocks if ('tensorflow' in b) == has_tensorflow]
        code = ''.join(b + check + same * ('torch' in b) for b in parts)
        code += f"import sys; assert ('tensorflow' in sys.modules) == {has_tensorflow}"
        code = code.replace('001000_frz', '000001_frz').replace('1000', '1')
        result = run_code(code, cwd=tmp_path)
        drawn = re.findall(r'^\((\d+), 28, 28, 1\) True$', result.stdout, re.MULTILINE)
        expected = ['64' if 'DCGAN(' in part else '5' for part in parts]
        assert drawn == expected and result.returncode == 0, result.stderr


@pytest.mark.smoke
def test_contributing_names_the_floors_of_the_folders():
    assert f'\n    {FLOORS}\n' in (ROOT / 'docs' / 'contributing.md').read_text()


@pytest.mark.smoke
def test_pictures_can_be_read_and_are_small_and_shown():
    text = ''.join(page.read_text() for page in PAGES)
    for path in (ROOT / 'assets').iterdir():
        assert pixels(path).any()
        assert path.stat().st_size < 500_000
        assert f'assets/{path.name})' in text, path


@pytest.mark.smoke
def test_messages_of_the_troubleshooting_table_are_those_of_the_code():
    texts = []
    for path in [*ROOT.glob('*.py'), *(ROOT / 'dcgan').rglob('*.py')]:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                texts.append(node.value)
            elif isinstance(node, ast.JoinedStr):
                parts = (getattr(part, 'value', '') for part in node.values)
                texts.append('|'.join(p for p in parts if isinstance(p, str)))
    page = (ROOT / 'docs' / 'troubleshooting.md').read_text()
    rows = [line.split('|')[1] for line in page.splitlines() if line.startswith('|')]
    del rows[:2]  # the head of the table
    messages = [m for row in rows for m in re.findall('`([^`]+)`', row)]
    assert len(rows) == 16
    for part in (part.strip() for m in messages for part in m.split('...')):
        assert any(part in text for text in texts), part


@pytest.mark.slow
@pytest.mark.parametrize('recipe', RECIPES)
def test_recipes_run_when_shortened(recipe, tmp_path):
    args = shlex.split(recipe)[1:]
    if 'mnist' in args:
        write_idx_set(tmp_path / 'data' / 'mnist', count=16, size=28, classes=10)
    else:
        write_images(tmp_path / 'data' / 'celebA', count=16, ending='jpg')
        names = [f'{i:03d}.jpg' for i in range(16)]
        for name, values in ('eval_partition', '0'), ('bbox_celeba', '1 1 9 9'):
            rows = '\n'.join(f'{image} {values}' for image in names)
            (tmp_path / 'data' / f'list_{name}.txt').write_text(rows)
    # given twice, the last one counts
    short = ['--epoch', 2, '--batch_size', 8, '--gf_dim', 4, '--df_dim', 4]
    short += ['--gfc_dim', 8, '--dfc_dim', 8]
    short += ['--pretrain_d', 2] if '--pretrain_d' in args else []
    short += ['--lr_decay_epochs', 1] if '--lr_decay_epochs' in args else []
    result = run_in_process(*args, *short, cwd=tmp_path)
    assert result.returncode == 0 and '[*] Trained: ' in result.stdout, result.stderr
