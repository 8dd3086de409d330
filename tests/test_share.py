"""The page as a folder of files, which draws in the browser."""

import contextlib
import http.server
import io
import json
import os
import threading
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import tensorflow.compat.v1 as tf
from conftest import ROOT, run_in_process, use
from PIL import Image
from test_page import run_main
from test_page_browser import Z, click, download, opened, picture, press, settle, z_of

from dcgan.page.share import RUNTIME
from dcgan.util.z import Z_DISTRIBUTIONS, gen_random
from model import DCGAN

WEB = Path(os.environ.get('ORT_WEB', ROOT / 'node_modules/onnxruntime-web/dist'))


@contextlib.contextmanager
def shared(browser, workspace, run):
    """The page of a run that is shared, behind a plain web server."""
    if not WEB.is_dir():
        pytest.skip('no onnxruntime-web')
    folder = workspace / f'web_{run}'
    use(workspace, run, '--share', folder, '--share_runtime', WEB)
    handler = partial(http.server.SimpleHTTPRequestHandler, directory=folder)
    with http.server.ThreadingHTTPServer(('127.0.0.1', 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        with opened(browser, f'http://127.0.0.1:{server.server_port}/') as page:
            yield page
        server.shutdown()


@pytest.fixture
def runtime(tmp_path):
    """A folder of empty files in place of onnxruntime-web's."""
    for name in RUNTIME:
        (tmp_path / name).touch()
    return tmp_path


def test_a_folder_gets_the_page_the_model_and_what_draws(workspace, runtime):
    folder = workspace / 'my web'
    folder.mkdir()
    (folder / 'CNAME').touch()  # it stays
    args = ['--onnx', '--share', 'my web', '--share_runtime', runtime]
    printed = use(workspace, 'set', *args)
    assert "-d 'my web' shows it" in printed and printed.count('ONNX:') == 1
    names = {'CNAME', 'index.html', 'draw.js', 'model.json', 'generator.onnx', *RUNTIME}
    assert {path.name for path in folder.iterdir()} == names
    model = json.loads((folder / 'model.json').read_text())
    assert model['steps'] == [3] and model['classes'] == ['0', '1', '2', '3']
    assert '{{' not in (folder / 'index.html').read_text()


def test_a_missing_runtime_and_a_page_of_others_are_told(workspace):
    (workspace / 'site').mkdir()
    (workspace / 'site' / 'index.html').write_text('my home')
    args = ['--out_name', 'set', '--share']
    result = run_in_process(*args, 'site', cwd=workspace)
    assert 'is of another page; choose another folder' in result.stderr
    result = run_in_process(*args, 'new', cwd=workspace)
    assert result.returncode == 1 and 'npm install onnxruntime-web' in result.stderr
    assert (workspace / 'site' / 'index.html').read_text() == 'my home'


def test_a_sampler_that_cannot_be_converted_is_an_error_of_the_flag(workspace, runtime):
    class Rare(DCGAN):
        def generator(self, z, y=None, reuse=False, how=None):
            x = super().generator(z, y, reuse, how)
            return tf.math.igamma(x + 2, x + 2)  # only TensorFlow has it

    share = ['--share', 'new', '--share_runtime', runtime]
    for args in ['--onnx'], ['--tflite'], share:
        result = run_in_process('--out_name', 'cats', *args, cwd=workspace, model=Rare)
        assert f'{args[0]}: cannot convert the sampler' in result.stderr


@pytest.mark.parametrize('run', ['set', 'cats'])
@pytest.mark.slow
def test_the_picture_of_a_seed_is_that_of_main_py(run, browser, workspace):
    args = ['--out_name', run, '--seed', 1, '--generate_test_images', 64, '--npz']
    png, npz = run_main(workspace, *args)
    bytes_drawn = np.load(io.BytesIO(npz))['images']
    level = 255 / np.ptp(bytes_drawn)  # of the sampler, on a grid of more contrast
    with shared(browser, workspace, run) as page:
        drawn = picture(page, 'grid').astype(int)
    difference = abs(drawn - np.asarray(Image.open(io.BytesIO(png))))
    assert difference.max() <= level + 1 and (difference == 0).mean() > 0.9


@pytest.mark.slow
def test_pictures_appear_while_z_is_dragged(browser, workspace):
    with shared(browser, workspace, 'set') as page:
        shown = page.evaluate("""async () => {
            const {session} = await loaded, run = session.run.bind(session);
            session.run = async (...all) => {  // of a large model
                await new Promise(done => setTimeout(done, 50));
                return run(...all); };
            let shown = 0;
            const watch = new MutationObserver(() => shown++);
            watch.observe($('current'), {childList: true});
            for (let i = 0; i < 60; i++) {
                setZ(1, i / 30);
                await new Promise(requestAnimationFrame); }
            return shown; }""")
        settle(page)
        assert shown > 1 and z_of(page, 1) == pytest.approx(59 / 30, abs=0.001)


@pytest.mark.slow
def test_z_classes_and_walks_are_drawn_in_the_browser(browser, workspace):
    with shared(browser, workspace, 'set') as page:
        for name in Z_DISTRIBUTIONS:
            z = gen_random(name, (7, 99), np.random.RandomState(5)).astype(np.float32)
            assert (page.evaluate(f'randomZ("{name}", 5, 7, 99)') == z).all()
        click(page, '#grid .cell:nth-child(3)', '[data-add=walk]')
        before, z = picture(page, 'current'), z_of(page, 1)
        press(page, f'{Z}:nth-child(2)', 'PageUp')
        assert abs(z_of(page, 1) - z - 1) < 0.01
        assert (picture(page, 'current') != before).any()
        assert page.locator('#all-classes .cell').count() == 4
        click(page, '#all-classes .cell:nth-child(2)', '[data-add=walk]')
        assert page.locator('#walk .cell').count() == 9
        png = Image.open(io.BytesIO(download(page, 'walk', 'PNG'))).convert('L')
        assert (picture(page, 'walk') == np.asarray(png)).all()
        assert page.is_hidden('#upload') and page.is_hidden('#step')
        page.set_viewport_size({'width': 380, 'height': 700})
        assert page.evaluate('document.documentElement.scrollWidth') <= 380
        model = workspace / 'web_set' / 'generator.onnx'
        model.write_bytes(model.read_bytes()[:-1])
        page.reload()
        page.wait_for_selector('#message:text("generator.onnx is not the one")')
