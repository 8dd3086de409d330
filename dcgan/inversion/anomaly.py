"""Score how far pictures are from all samples, and say what the scores mean.

AnoGAN: Schlegl et al., 2017, https://arxiv.org/abs/1703.05921.
"""

import csv
import io
import os
import zlib

import numpy as np

from dcgan.data.idx import array_files
from dcgan.evaluation.nearest import share_closer
from dcgan.inversion.invert import How, invert, print_distances
from dcgan.inversion.pictures import Pictures, beside, heat, read_pictures
from dcgan.record.curves import import_figure
from dcgan.runs.flags_json import read_flags
from dcgan.sampling.samples import draw, save_grid
from dcgan.util.files import atomic_path, json_digest, write_bytes
from dcgan.util.npz import read_cached, write_arrays
from dcgan.util.output import Extra, print_line, print_path

WEIGHTS = 0.9, 0.1, 0.0  # of pixels, features and prior in the score
HELD_OUT = 500  # pictures, at most
COLUMNS = 'name', 'score', 'percentile', 'residual', 'features', 'is_anomaly'


def held_out_scores(dcgan, config, how: How) -> np.ndarray | None:
    """What is minimized, sorted, of pictures that the run has not seen; None: has none.

    Those of config.held_out, or the rows of an ArraySet that --train_size leaves. Their
    distance is printed; the scores are kept with the run.
    """
    source, first = config.held_out, 0
    if not source:
        source = os.path.join(config.data_dir, config.dataset)
        if not array_files(source):
            return None
        first = float(read_flags(config.out_dir).get('train_size', np.inf))
    pictures = read_pictures(source, dcgan, config, HELD_OUT, first)
    if pictures is None:
        return None
    z = np.full((1, dcgan.z_dim), 0.5, np.float32)
    drawn = draw(dcgan.sess, dcgan, z, np.array([0]), as_bytes=True)  # by its weights
    key = [config.seed, how, *map(zlib.crc32, (drawn, *pictures[1:]))]
    path = os.path.join(config.out_dir, f'held_out-{json_digest(key)}.npz')
    names, shape = ('distances', 'first', 'losses'), [len(pictures.images)]
    kept = read_cached(path, dict.fromkeys(names, shape))
    if not kept:
        state = np.random.get_state()  # as if they were read
        found = invert(dcgan, *pictures[1:], None, how, 'held out')
        np.random.set_state(state)
        kept = {name: getattr(found, name) for name in names}
        with Extra(path):
            write_arrays(path, kept)
    print_distances('held-out pictures', kept['distances'], kept['first'])
    return np.sort(kept['losses'])


def score_pictures(dcgan, config, how: How, pictures: Pictures) -> None:
    """Write anomaly.csv, and anomaly.png with the pictures of high scores first.

    With pictures in folders `normal` and `abnormal`, prints the area under the ROC
    curve, too, and draws anomaly_roc.png.
    """
    held_out = held_out_scores(dcgan, config, how)
    found = invert(dcgan, pictures.images, pictures.labels, None, how, 'anomaly')
    print_distances('pictures', found.distances, found.first)
    path, scores = os.path.join(config.sample_dir, 'anomaly'), found.losses
    percentiles = is_anomaly = [''] * len(scores)
    if held_out is None:
        advice = 'give pictures that are as normal as the data by --held_out'
        print_line(f' [!] No percentiles: no pictures are held out; {advice}')
    else:
        below = np.searchsorted(held_out, scores)
        percentiles, limit = 100 * below / len(held_out), config.anomaly_threshold
        is_anomaly = (percentiles >= limit).astype(int)
        over = f'percentile {limit:g} of the held-out pictures, or more'
        print_line(f' [*] {is_anomaly.sum()} of {len(scores)} are at {over}')
    residuals = found.distances * float(2 * np.prod(pictures.images.shape[1:]))
    columns = scores, percentiles, residuals, found.features, is_anomaly
    text = io.StringIO()
    csv.writer(text).writerows([COLUMNS, *zip(pictures.names, *columns)])
    write_bytes(f'{path}.csv', os.fsencode(text.getvalue()))
    print_path(f'{path}.csv')
    order = np.argsort(-scores, kind='stable')
    shown = pictures.images[order], found.images[order]
    save_grid(beside(config, *shown, heat(*shown)), f'{path}.png', config.sheet_columns)
    kinds = np.array([name.split(os.sep)[0] for name in pictures.names])
    if {*kinds} >= {'normal', 'abnormal'}:
        of_kinds = (scores[kinds == kind] for kind in ('normal', 'abnormal'))
        _save_roc(f'{path}_roc.png', *of_kinds)


def _save_roc(path, normal, abnormal):
    """Print the area under the ROC curve of scores, and draw the curve."""
    area = share_closer(normal, abnormal)
    print_line(f' [*] AUC {area:.4f}: {len(normal)} normal, {len(abnormal)} abnormal')
    limits, kinds = np.sort([*normal, *abnormal, np.inf]), (normal, abnormal)
    shares = [1 - np.searchsorted(np.sort(x), limits) / len(x) for x in kinds]
    with Extra(path), atomic_path(path) as temporary:
        figure = import_figure()(figsize=(4, 4), layout='constrained')
        axes = figure.subplots()
        axes.plot(*shares)
        axes.set(xlabel='normal pictures marked', ylabel='abnormal pictures marked')
        axes.set_title(f'AUC {area:.4f}')
        figure.savefig(temporary, format='png')
        print_path(path)
