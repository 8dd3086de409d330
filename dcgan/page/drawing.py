"""What the page asks for: requests, checked, and the pictures that answer them."""

import base64
import collections
import io
import json
import os
import shlex
import threading
import zipfile
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from dcgan.data.images import grid_image, write_gif
from dcgan.runs.run import class_names_in
from dcgan.sampling.export import sampled_weights
from dcgan.sampling.samples import (
    arrays_in,
    draw_batches,
    gen_random,
    grid_size,
    in_turn,
)
from dcgan.training.checkpoints import checkpoints, newest_checkpoint, step_of
from dcgan.util.errors import UserError
from dcgan.util.files import file_signature

MAX_SAMPLES = 256  # of a request
MAX_Z = 1e4  # of a number of z
MAX_CLIENTS = 1000  # whose last request is remembered
DIRECTIONS = 8  # principal components
FORMATS = {
    'json': 'application/json',
    'png': 'image/png',
    'npz': 'application/octet-stream',
    'gif': 'image/gif',
}
FILES = {'curves.png': 'image/png', 'progress.gif': 'image/gif'}


class Refused(Exception):
    """A request that is not answered as asked: HTTP status, and why in one line."""

    def __init__(self, status: int, reason: str):
        super().__init__(reason)
        self.status = status


class Request(NamedTuple):
    """What samples to draw, checked."""

    z: np.ndarray | None  # float32 [n, z_dim]; None: drawn with the seed
    seed: int
    count: int
    labels: np.ndarray  # of the samples, [n]; -1 without classes
    step: int | None  # of the checkpoint; None: the newest
    columns: int | None  # of the grid; None: a square
    format: str
    milliseconds: int  # of each image of an animation
    client: str  # only the last request of a client is answered; '': all are
    number: int  # of the request, which rises


def parse(body: bytes, z_dim: int, classes: int | None) -> Request:
    """Check a request. Raises Refused for what does not fit the model or the limits."""
    try:
        fields = json.loads(
            body, parse_constant=lambda name: _refuse(f'{name} is no number to draw by')
        )
    except (ValueError, RecursionError):
        fields = None
    if not isinstance(fields, dict):
        _refuse('send an object in JSON, such as {"seed": 1, "count": 16}')
    known = {'z', 'seed', 'count', 'labels', 'step', 'columns', 'format'}
    known |= {'milliseconds', 'client', 'number'}
    if unknown := sorted(fields.keys() - known):
        _refuse(f'{unknown[0][:40]!r} is unknown; use {", ".join(sorted(known))}')

    def whole(name, default, least, most):
        value = fields.get(name)
        if value is None:
            return default
        if type(value) is not int or not least <= value <= most:
            _refuse(f'{name} has to be a whole number from {least} to {most}')
        return value

    z = _parse_z(fields['z'], z_dim) if 'z' in fields else None
    count = whole('count', 1, 1, MAX_SAMPLES) if z is None else len(z)
    labels = fields.get('labels')
    if labels is not None and not _is_list_of(labels, (int,), 1, MAX_SAMPLES):
        _refuse(f'labels has to be a list of 1 to {MAX_SAMPLES} whole numbers')
    if labels and not classes:
        _refuse('labels: this model has no classes')
    if labels and not all(0 <= label < classes for label in labels):
        _refuse(f'labels: the classes of this model are 0 to {classes - 1}')
    drawn = np.array(labels or range(classes)) if classes else None
    name, client = fields.get('format', 'json'), fields.get('client', '')
    if not isinstance(name, str) or name not in FORMATS:
        _refuse(f'format has to be one of {", ".join(FORMATS)}')
    if not isinstance(client, str) or len(client) > 64:
        _refuse('client has to be a text of at most 64 characters')
    return Request(
        z,
        whole('seed', 0, 0, 2**32 - 1),
        count,
        in_turn(drawn, range(count)),
        whole('step', None, 0, 2**62),
        whole('columns', None, 1, MAX_SAMPLES),
        name,
        whole('milliseconds', 100, 20, 10_000),
        client,
        whole('number', 0, 0, 2**53),
    )


def _refuse(reason):
    raise Refused(400, reason)


def _is_list_of(value, types, least, most):
    is_list = isinstance(value, list) and least <= len(value) <= most
    return is_list and all(type(v) in types for v in value)


def _parse_z(rows, z_dim):
    numbers = (int, float)
    if not isinstance(rows, list) or not 1 <= len(rows) <= MAX_SAMPLES:
        _refuse(f'z has to be a list of 1 to {MAX_SAMPLES} lists')
    if not all(_is_list_of(row, numbers, z_dim, z_dim) for row in rows):
        _refuse(f'z: each list has to have {z_dim} numbers')
    if not all(abs(value) <= MAX_Z for row in rows for value in row):
        _refuse(f'z: numbers have to be between -{MAX_Z:g} and {MAX_Z:g}')
    return np.array(rows, np.float32)


class Painter:
    """Draws by a trained model and the checkpoints of its run, for one at a time."""

    def __init__(self, dcgan, config, command: list[str]):
        """command: arguments of main.py that use the same run, for people to repeat."""
        self.dcgan, self.config, self.command = dcgan, config, command
        self.names = class_names_in(config.out_dir)
        self.is_drawing = threading.Lock()  # TensorFlow and NumPy's random numbers
        self._noting = threading.Lock()
        self._numbers: collections.OrderedDict[str, int] = collections.OrderedDict()
        # the checkpoints among which one was chosen, with signatures; its step
        self._loaded: tuple[list | None, int] = None, 0
        self._directions: list | None = None  # of that checkpoint

    def about(self) -> dict[str, Any]:
        """What the page has to know of the model and its run."""
        dcgan, config = self.dcgan, self.config
        paths = checkpoints(config.checkpoint_dir)
        names = self.names or list(map(str, range(dcgan.y_dim or 0)))
        return {
            'dataset': config.dataset,
            'run': os.path.basename(os.path.normpath(config.out_dir)),
            'z_dim': dcgan.z_dim,
            'z_dist': config.z_dist,
            'height': dcgan.output_height,
            'width': dcgan.output_width,
            'classes': names[: dcgan.y_dim or 0],
            'steps': sorted(
                {step_of(p) for p in paths if os.path.exists(f'{p}.index')}
            ),
            'step': config.resume_step,
            'files': [name for name in FILES if os.path.exists(self.path_of(name))],
            'command': f'python main.py {shlex.join(self.command)}',
            'max_samples': MAX_SAMPLES,
        }

    def path_of(self, name: str) -> str:
        """The path of one of FILES."""
        folder = self.config.out_dir if name == 'curves.png' else self.config.sample_dir
        return os.path.join(folder, name)

    def directions(self, step: int | None) -> dict[str, Any]:
        """Unit vectors of z along which the response of G's first layer varies most.

        Its principal components, for z whose dimensions are independent and vary alike:
        then they are the left singular vectors of the layer's weights. With each goes
        its share of the variance.
        """
        with self.is_drawing:
            step = self._load(step)
            if self._directions is None:
                weights = sampled_weights(self.dcgan)['generator/g_h0_lin/Matrix']
                rows = self.dcgan.sess.run(weights)[: self.dcgan.z_dim]
                values, vectors = np.linalg.eigh(np.float64(rows @ rows.T))
                vectors = vectors.T[::-1][:DIRECTIONS]
                largest = np.abs(vectors).argmax(1)[:, None]
                vectors *= np.sign(np.take_along_axis(vectors, largest, 1))
                shares = values[::-1][:DIRECTIONS] / max(values.sum(), 1e-30)
                self._directions = [vectors.tolist(), shares.tolist()]
            vectors, shares = self._directions
            return {'step': step, 'vectors': vectors, 'shares': shares}

    def draw(self, request: Request) -> bytes:
        """Draw samples, in the format of the request.

        Raises Refused for a request that a later one of its client has replaced, and
        UserError for a checkpoint that does not exist.
        """
        self._note(request)
        with self.is_drawing:
            if request.number < self._numbers.get(request.client, 0):
                raise Refused(409, 'out of date: a later request has replaced it')
            step, z = self._load(request.step), request.z
            if z is None:
                np.random.seed(request.seed)
                shape = (request.count, self.dcgan.z_dim)
                z = gen_random(self.config.z_dist, shape).astype(np.float32)
            batches = draw_batches(
                self.dcgan.sess, self.dcgan, z, request.labels, as_bytes=True
            )
            images = np.concatenate(list(batches))
        return encode(request, step, z, images)

    def _note(self, request):
        """Remember the number of a client's last request."""
        if not request.client:
            return
        with self._noting:
            last = self._numbers.pop(request.client, 0)
            self._numbers[request.client] = max(last, request.number)
            while len(self._numbers) > MAX_CLIENTS:
                self._numbers.popitem(last=False)

    def _load(self, step):
        """Use the weights of that iteration, or of the newest; returns its number."""
        folder = self.config.checkpoint_dir
        step = self.config.resume_step if step is None else step
        choice = [step]
        choice += [(p, file_signature(f'{p}.index')) for p in checkpoints(folder)]
        if choice == self._loaded[0]:  # without reading it: that takes 60 ms
            return self._loaded[1]
        path = newest_checkpoint(folder, step)
        if path is None:
            raise UserError(f'{folder}: has no checkpoint any more')
        self._loaded, self._directions = (None, 0), None
        _, step = self.dcgan.load(folder, step, path)
        self._loaded = choice, step
        return step


def encode(request: Request, step: int, z: np.ndarray, images: np.ndarray) -> bytes:
    """Samples in the format of the request.

    step    of the checkpoint that has drawn them
    z       float32 [n, z_dim]
    images  uint8 [n, h, w, c]
    """
    file = io.BytesIO()
    if request.format == 'gif':
        frames = (Image.fromarray(i[..., 0] if i.shape[2] == 1 else i) for i in images)
        write_gif(frames, file, request.milliseconds)
    elif request.format == 'npz':
        arrays = {'images': images, 'labels': request.labels.astype(np.int64), 'z': z}
        with zipfile.ZipFile(file, 'w') as archive:
            for name, array in arrays.items():
                with arrays_in(archive)(name, array.shape, array.dtype) as write:
                    write(array)
    else:
        size = grid_size(len(images), request.columns)
        grid_image(images, size).save(file, 'PNG')
    if request.format != 'json':
        return file.getvalue()
    answer = {
        'step': step,
        'columns': size[1],
        'labels': request.labels.tolist(),
        'z': z.tolist(),
        'png': base64.b64encode(file.getvalue()).decode(),
    }
    return json.dumps(answer).encode()
