"""Rules for the code: the direction of imports, the length of modules and functions."""

import ast

import pytest
from conftest import ROOT

pytestmark = pytest.mark.smoke
MAX_LINES = {'main.py': 500, 'model.py': 580, 'ops.py': 220, 'utils.py': 300}
MODULES = sorted([*ROOT.glob('*.py'), *(ROOT / 'dcgan').rglob('[a-z]*.py')])


@pytest.mark.parametrize('path', MODULES, ids=lambda path: path.stem)
def test_modules_and_functions_are_short(path):
    text = path.read_text()
    assert len(text.splitlines()) <= MAX_LINES.get(path.name, 560)
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef):
            length = node.end_lineno - node.lineno + 1
            is_constructor = path.stem == 'model' and node.name == '__init__'
            assert length <= 60 or is_constructor, node.name
