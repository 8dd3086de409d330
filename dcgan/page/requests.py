"""Validate the requests of the page."""

import json
from typing import NamedTuple

import numpy as np

MAX_SAMPLES = 256  # in a request
MAX_Z = 1e4  # largest absolute value in z
FORMATS = {
    'json': 'application/json',
    'png': 'image/png',
    'npz': 'application/octet-stream',
    'gif': 'image/gif',
}
FILES = {'curves.png': 'image/png', 'progress.gif': 'image/gif'}

WHOLE = {  # the whole numbers of a request: {name: (default, least, most)}
    'seed': (0, 0, 2**32 - 1),
    'count': (1, 1, MAX_SAMPLES),
    'step': (None, 0, 2**62),
    'columns': (None, 1, MAX_SAMPLES),
    'milliseconds': (100, 20, 10_000),
    'number': (0, 0, 2**53),
}


class Refused(Exception):
    """A refused request. `status` is the HTTP status; the text is the reason."""

    def __init__(self, reason: str, status: int = 400):
        super().__init__(reason)
        self.status = status


class Request(NamedTuple):
    """A valid request for samples."""

    z: np.ndarray | None  # float32 [n, z_dim]; None: drawn with the seed
    seed: int
    count: int
    labels: np.ndarray  # [n]; -1 without classes
    step: int | None  # the checkpoint's; None: the newest
    columns: int | None  # of the image grid; None: a square
    format: str  # one of FORMATS
    milliseconds: int  # for each image of an animation
    client: str  # only the last request of a client is answered; '': all are
    number: int  # later requests of a client have higher numbers


def parse(body: bytes, z_dim: int, classes: int | None) -> Request:
    """Parse the JSON of a request to a model. Raises Refused if it is invalid."""
    try:
        fields = json.loads(body)
    except (ValueError, RecursionError):
        fields = None
    if not isinstance(fields, dict):
        raise Refused('send an object in JSON, such as {"seed": 1, "count": 16}')
    if unknown := sorted(fields.keys() - {*Request._fields}):
        names = ', '.join(sorted(Request._fields))
        raise Refused(f'{unknown[0][:40]!r} is unknown; use {names}')
    values = {}
    for name, (default, least, most) in WHOLE.items():
        value = default if fields.get(name) is None else fields[name]
        if not (value is None or (type(value) is int and least <= value <= most)):
            raise Refused(f'{name} has to be a whole number from {least} to {most}')
        values[name] = value
    z = _parse_z(fields['z'], z_dim) if 'z' in fields else None
    if z is not None:
        values['count'] = len(z)
    labels = fields.get('labels')
    are_whole = isinstance(labels, list) and {*map(type, labels)} == {int}
    if labels is None:
        labels = range(classes) if classes else [-1]
    elif not are_whole or len(labels) > MAX_SAMPLES:
        raise Refused(f'labels has to be a list of 1 to {MAX_SAMPLES} whole numbers')
    elif not classes:
        raise Refused('labels: this model has no classes')
    elif not all(0 <= label < classes for label in labels):
        raise Refused(f'labels: the classes of this model are 0 to {classes - 1}')
    labels = np.resize(labels, values['count'])
    kind, client = fields.get('format', 'json'), fields.get('client', '')
    if not isinstance(kind, str) or kind not in FORMATS:
        raise Refused(f'format has to be one of {", ".join(FORMATS)}')
    if not isinstance(client, str) or len(client) > 64:
        raise Refused('client has to be a text of at most 64 characters')
    return Request(z=z, labels=labels, format=kind, client=client, **values)


def parse_query(query: dict[str, list[str]]) -> Request:
    """Read the seed and the step in an address. Raises Refused if they are invalid."""
    texts = {name: query[name][0] for name in ('seed', 'step') if name in query}
    fields = {n: int(text) if text.isdecimal() else text for n, text in texts.items()}
    return parse(json.dumps(fields).encode(), 0, None)


def _parse_z(rows, z_dim):
    if not isinstance(rows, list) or not 1 <= len(rows) <= MAX_SAMPLES:
        raise Refused(f'z has to be a list of 1 to {MAX_SAMPLES} lists')
    are_lists = all(isinstance(row, list) and len(row) == z_dim for row in rows)
    if not are_lists or not all(type(n) in (int, float) for row in rows for n in row):
        raise Refused(f'z: each list has to have {z_dim} numbers')
    if not all(abs(number) <= MAX_Z for row in rows for number in row):
        raise Refused(f'z: numbers have to be between -{MAX_Z:g} and {MAX_Z:g}')
    return np.array(rows, np.float32)
