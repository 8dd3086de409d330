"""Rules for the code: the direction of imports, the length of modules and functions."""

import ast

import pytest
from conftest import ROOT

pytestmark = pytest.mark.smoke
# a module may import those before it
IMPORT_ORDER = [
    *('errors', 'files', 'signals', 'images', 'idx', 'decoding', 'listing', 'labels'),
    *('datasets', 'samples', 'devices', 'cluster', 'distributed', 'kernels'),
    *('normalization', 'checkpoints', 'averages'),
    *('feeding', 'summaries', 'metrics', 'curves', 'report', 'state', 'ways', 'steps'),
    *('training', 'export', 'digits', 'runs', 'settings', 'joining', 'measures'),
    'features',
    *('classifier', 'reference', 'evaluation', 'encoding', 'painter', 'page'),
    *('startup', 'usage'),
    *('transfers', 'ops', 'utils', 'model', 'download', 'main'),
]
MAX_LINES = {'main.py': 500, 'ops.py': 220, 'utils.py': 300}
MODULES = sorted([*ROOT.glob('*.py'), *(ROOT / 'dcgan').glob('[a-z]*.py')])


@pytest.mark.parametrize('path', MODULES, ids=lambda path: path.stem)
def test_modules_import_only_modules_before_them(path):
    position = IMPORT_ORDER.index(path.stem)
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module == 'dcgan':
            names = [f'dcgan.{alias.name}' for alias in node.names]
        else:
            names = [node.module] if isinstance(node, ast.ImportFrom) else []
        for name in names:
            imported = name.removeprefix('dcgan.')
            if (ROOT / f'{name.replace(".", "/")}.py').exists():
                assert IMPORT_ORDER.index(imported) < position, name


@pytest.mark.parametrize('path', MODULES, ids=lambda path: path.stem)
def test_modules_and_functions_are_short(path):
    text = path.read_text()
    assert len(text.splitlines()) <= MAX_LINES.get(path.name, 560)
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef):
            length = node.end_lineno - node.lineno + 1
            is_constructor = path.stem == 'model' and node.name == '__init__'
            assert length <= 60 or is_constructor, node.name
