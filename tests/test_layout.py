"""Rules for the code: the direction of imports, the length of modules and functions."""

import ast
import re
import subprocess
import sys

import pytest
from conftest import ROOT

pytestmark = pytest.mark.smoke
# a folder imports those to its left, but not its neighbours on the same floor
FLOORS = 'util | data compute record | training | sampling runs | evaluation'
FLOORS += ' | inversion | page'
MAX_LINES = {'main.py': 250, 'model.py': 360, 'ops.py': 220, 'utils.py': 300}
MODULES = sorted([*ROOT.glob('*.py'), *(ROOT / 'dcgan').rglob('[a-z]*.py')])


def test_folders_import_only_folders_on_floors_below():
    for floor in FLOORS.split(' | '):
        below = FLOORS.split(floor)[0].split()
        for folder in floor.split():
            allowed = {folder, *below}
            for path in (ROOT / 'dcgan' / folder).glob('*.py'):
                text = path.read_text()
                imported = re.findall(r'^ *(?:from|import) dcgan\.(\w+)', text, re.M)
                assert set(imported) <= allowed, path
                tops = re.findall(r'^ *(?:from|import) (\w+)', text, re.M)
                assert not {'main', 'model', 'ops', 'utils', 'download'} & {*tops}, path


def test_modules_and_functions_are_short():
    for path in MODULES:
        text = path.read_text()
        assert len(text.splitlines()) <= MAX_LINES.get(path.name, 560), path
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.FunctionDef):
                length = node.end_lineno - node.lineno + 1
                is_constructor = path.stem == 'model' and node.name == '__init__'
                assert length <= 60 or is_constructor, (path, node.name)


def test_the_lines_that_mutate_py_breaks_are_in_the_sources():
    command = [sys.executable, ROOT / 'tests' / 'mutate.py', '--check']
    assert subprocess.run(command).returncode == 0
