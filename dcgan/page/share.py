"""Share the page as a folder of files: its visitors' browsers draw the images."""

import contextlib
import json
import os
import shlex

from dcgan.page.drawing import describe, directions
from dcgan.page.server import PAGE, POLICY
from dcgan.sampling.onnx_tflite import converting, onnx_bytes, path_of
from dcgan.training.user_model import fixed_batch
from dcgan.util.errors import UserError
from dcgan.util.files import read_file, require_writable, write_bytes
from dcgan.util.flags import Flag, Group
from dcgan.util.output import print_line

RUNTIME = ['ort.wasm.min.mjs']  # of onnxruntime-web, for processors
RUNTIME += ['ort-wasm-simd-threaded.mjs', 'ort-wasm-simd-threaded.wasm']
DRAW = PAGE.with_name('draw.js')  # in place of the server
SCRIPTS = "script-src 'self' blob: 'wasm-unsafe-eval'"  # that the folder may run
MARK = '<meta name="generator" content="DCGAN --share">'


def check(config) -> None:
    """Raise UserError if --share could not write its folder."""
    if not config.share:
        return
    index = os.path.join(config.share, 'index.html')
    if os.path.exists(index) and MARK.encode() not in read_file(index, bytes):
        raise UserError(f'--share: {index} is of another page; choose another folder')
    require_writable(config.share, 'choose another folder for --share')
    runtime(config)


def share(dcgan, config, step: int) -> None:
    """Write the page with the model of iteration `step`, and what draws by it.

    Other files in the folder stay. Raises UserError if one cannot be written.
    """
    files = runtime(config)
    if config.onnx:  # converted already
        files['generator.onnx'] = read_file(path_of(config, step, 'onnx'), bytes)
    else:
        with converting('--share'):
            files['generator.onnx'] = onnx_bytes(dcgan, config, step)
    model = describe(dcgan, config)
    model |= {'step': step, 'steps': [step], 'files': [], 'can': []}
    model['batch'] = fixed_batch(dcgan)
    model['sizes'] = {name: len(content) for name, content in files.items()}
    with contextlib.suppress(UserError):  # a G without such a first layer
        model |= {'can': ['directions'], **directions(dcgan)}
    policy = POLICY.format('page').replace('script-src', SCRIPTS)
    meta = f'<meta http-equiv="Content-Security-Policy" content="{policy}">'
    page = PAGE.read_text().replace('<head>', f'<head>\n{meta}\n{MARK}')
    page = page.replace('<script', f'<script src="{DRAW.name}"></script>\n<script')
    files |= {'model.json': json.dumps(model).encode(), DRAW.name: DRAW.read_bytes()}
    files['index.html'] = page.replace('{{nonce}}', 'page').encode()
    for name, content in files.items():
        write_bytes(os.path.join(config.share, name), content)
    server = shlex.join(['python', '-m', 'http.server', '-d', config.share])
    print_line(f' [*] {config.share}: {server} shows it')


def runtime(config) -> dict[str, bytes]:
    """{name: content} of the files of onnxruntime-web. UserError if one is missing."""
    advice = 'npm install onnxruntime-web, or give its folder by --share_runtime'
    how, folder = ('--share needs it', advice), config.share_runtime
    return {n: read_file(os.path.join(folder, n), bytes, *how) for n in RUNTIME}


# fmt: off
FLAGS = Group(
    'Share',
    '--share writes the page as a folder, docs/page.md',
    Flag('share', '', 'Write the page and the model to this folder', 'path task'),
    Flag('share_runtime', 'node_modules/onnxruntime-web/dist', 'Folder of the files of '
         'onnxruntime-web', 'path'),
)
