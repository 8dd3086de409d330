"""Draw the images that the page asks for, and describe the model to it."""

import base64
import io
import json
import os
import shlex
import threading

import numpy as np

from dcgan.data.image_grids import grid_image, grid_size, one_image, write_gif
from dcgan.data.images import load_image, parse_color
from dcgan.inversion import FRAMES, How, invert
from dcgan.inversion.pictures import reading_options
from dcgan.page.requests import FILES, MAX_SAMPLES, Refused, Request
from dcgan.sampling.export import sampled_weights
from dcgan.sampling.onnx_tflite import facts
from dcgan.sampling.samples import draw
from dcgan.training import checkpoints
from dcgan.util.errors import UserError
from dcgan.util.files import file_signature
from dcgan.util.z import gen_random

MAX_CLIENTS = 1000  # clients whose last request is remembered
CAN = ['npz', 'gif', 'command', 'directions', 'upload', 'steps']  # with a server
DIRECTIONS = 8  # number of principal components
MAX_PIXELS = 2**24  # of an uploaded picture: decoding takes half a gigabyte
INVERSION_STEPS = 200  # a few seconds on a CPU


class Drawer:
    """Draws by a model and the checkpoints of its run, one request at a time."""

    def __init__(self, dcgan, config, command: list[str]):
        """command: arguments of main.py for the same run, which the page shows."""
        self.dcgan, self.config, self.command = dcgan, config, command
        self.folder, self.step = config.checkpoint_dir, config.resume_step
        if self.step == checkpoints.BEST:
            self.folder, self.step = os.path.join(self.folder, self.step), None
        self.step = self.step and int(self.step)
        self.is_drawing = threading.Lock()  # TensorFlow and NumPy's random numbers
        self._numbers: dict[str, int] = {}  # of the last request of each client
        # the choice of checkpoints that led to the loaded one; its step
        self._loaded: tuple[tuple | None, int] = None, 0

    def about(self) -> dict[str, object]:
        """Facts about the model, and what its run and this server have."""
        paths = checkpoints.checkpoints(self.folder)
        steps = {checkpoints.step_of(p) for p in paths if checkpoints.index_of(p)}
        return {
            **describe(self.dcgan, self.config),
            'steps': sorted(steps),
            'step': self.step,
            'is_best': self.config.resume_step == checkpoints.BEST,
            'files': [name for name in FILES if os.path.exists(self.path_of(name))],
            'command': f'python main.py {shlex.join(self.command)}',
            'can': CAN,
        }

    def path_of(self, name: str) -> str:
        """The path of one of FILES."""
        folder = self.config.out_dir if name == 'curves.png' else self.config.sample_dir
        return os.path.join(folder, name)

    def directions(self, step: int | None) -> dict[str, object]:
        """The `directions` by the checkpoint of a step. UserError without them."""
        with self.is_drawing:
            return {'step': self._load(step), **directions(self.dcgan)}

    def draw(self, request: Request) -> bytes:
        """Draw samples, in the format of the request.

        Raises Refused if a later request has come, UserError without the checkpoint.
        """
        if request.client:
            if len(self._numbers) > MAX_CLIENTS:
                self._numbers.clear()
            last = self._numbers.get(request.client, 0)
            self._numbers[request.client] = max(last, request.number)
        with self.is_drawing:
            if request.number < self._numbers.get(request.client, 0):
                raise Refused('out of date: a later request has replaced it', 409)
            step, z = self._load(request.step), request.z
            if z is None:
                np.random.seed(request.seed)
                shape = (request.count, self.dcgan.z_dim)
                z = gen_random(self.config.z_dist, shape).astype(np.float32)
            images = draw(self.dcgan.sess, self.dcgan, z, request.labels, as_bytes=True)
        return encode(request, step, z, images)

    def invert(self, request: Request, content: bytes) -> dict[str, object]:
        """Find the z of a picture, given the content of its file.

        The request has the seed of the first z, and the step. Raises Refused for what
        is not a usable picture, UserError without the checkpoint.
        """
        with self.is_drawing:  # and decoding: it takes memory
            image, step = self._decode(content), self._load(request.step)
            np.random.seed(request.seed)
            how = How(steps=INVERSION_STEPS, z_dist=self.config.z_dist, frames=FRAMES)
            found = invert(self.dcgan, image[None], how=how)
        file = io.BytesIO()
        one_image(image).save(file, 'PNG')
        return {
            'step': step,
            'labels': found.labels.tolist(),
            'z': found.path[0].tolist(),
            'distance': float(found.distances[0]),
            'png': base64.b64encode(file.getvalue()).decode(),
        }

    def _decode(self, content):
        """Read a picture as the images of the data: uint8 [h, w, c]."""
        options = reading_options(self.dcgan, self.config) | {'max_pixels': MAX_PIXELS}
        if self.config.background:
            options['background'] = parse_color(self.config.background)
        try:
            image = load_image(io.BytesIO(content), **options)
        except UserError as error:  # its name and advice are for files of a data set
            reason = str(error).partition(': ')[2].partition(';')[0]
            raise Refused(f'the picture: {reason}') from error
        return image.reshape(self.dcgan.sampler.shape[1:].as_list())

    def _load(self, step):
        """Load the checkpoint of a step, or the newest one; returns its step."""
        folder, step = self.folder, self.step if step is None else step
        paths = checkpoints.checkpoints(folder)
        choice = step, [(p, file_signature(checkpoints.index_of(p))) for p in paths]
        if choice == self._loaded[0]:  # loading it again would take 60 ms
            return self._loaded[1]
        path = checkpoints.usable_checkpoint(folder, step)
        self._loaded = None, 0  # if loading fails
        _, step = self.dcgan.load(folder, step, path)
        self._loaded = choice, step
        return step


def describe(dcgan, config) -> dict[str, object]:
    """Facts about the model, for the page."""
    return {
        **facts(dcgan, config),
        'run': os.path.basename(os.path.normpath(config.out_dir)),
        'height': dcgan.output_height,
        'width': dcgan.output_width,
        'max_samples': MAX_SAMPLES,
    }


def directions(dcgan) -> dict[str, list]:
    """The directions of z along which G's first layer varies most.

    If z is independent in its dimensions, they are the left singular vectors of its
    weights: unit `vectors` [DIRECTIONS, z_dim], with `shares` of the variance.
    """
    weights = sampled_weights(dcgan).get('generator/g_h0_lin/Matrix')
    if weights is None or weights.shape[0] < dcgan.z_dim:
        raise UserError('directions: this G has no first layer g_h0_lin')
    rows = dcgan.sess.run(weights)[: dcgan.z_dim]
    values, vectors = np.linalg.eigh(np.float64(rows @ rows.T))
    vectors = vectors.T[::-1][:DIRECTIONS]
    largest = np.abs(vectors).argmax(1)[:, None]
    vectors *= np.sign(np.take_along_axis(vectors, largest, 1))
    shares = values[::-1][:DIRECTIONS] / max(values.sum(), 1e-30)
    return {'vectors': vectors.tolist(), 'shares': shares.tolist()}


def encode(request: Request, step: int, z: np.ndarray, images: np.ndarray) -> bytes:
    """Encode images, uint8 [n, h, w, c], drawn by checkpoint `step`, as requested."""
    file = io.BytesIO()
    if request.format == 'gif':
        write_gif(map(one_image, images), file, request.milliseconds)
    elif request.format == 'npz':
        np.savez(file, images=images, labels=request.labels.astype(np.int64), z=z)
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
