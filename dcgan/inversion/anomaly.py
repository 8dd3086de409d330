"""Score how far pictures are from all samples, and say what the scores mean.

AnoGAN: Schlegl et al., 2017, https://arxiv.org/abs/1703.05921.
"""

import csv
import io
import os
import zlib

import numpy as np

from dcgan.data.idx import idx_pairs
from dcgan.evaluation.nearest import share_closer
from dcgan.inversion.invert import How, invert
from dcgan.inversion.pictures import Pictures, read_pictures
from dcgan.inversion.results import heat, print_distance, save_beside
from dcgan.record.curves import import_figure
from dcgan.runs.flags_json import read_flags
from dcgan.util.files import atomic_path, json_digest, write_bytes
from dcgan.util.npz import read_cached, write_arrays
from dcgan.util.output import Extra, print_line, print_path

WEIGHTS = {'pixels': 0.9, 'features': 0.1, 'prior': 0.0}  # of the score
HELD_OUT = 500  # pictures, at most
COLUMNS = 'name', 'score', 'percentile', 'residual', 'features', 'is_anomaly'


def held_out_scores(dcgan, config, how: How, step: int) -> np.ndarray | None:
    """What is minimized, sorted, of pictures that the run has not seen; None: has none.

    Those of config.held_out, or the rows of IDX files that --train_size leaves. Their
    distance is printed; the scores are kept with the run.
    """
    source, first = config.held_out, 0
    if not source:
        source = os.path.join(config.data_dir, config.dataset)
        if not (os.path.isdir(source) and idx_pairs(source)):
            return None
        first = float(read_flags(config.out_dir).get('train_size', np.inf))
    pictures = read_pictures(source, dcgan, config, HELD_OUT, first)
    if pictures is None:
        return None
    key = [
        step,
        config.seed,
        how,
        zlib.crc32(pictures.images),
        pictures.labels.tolist(),
    ]
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
    print_distance('held-out pictures', kept['distances'], kept['first'])
    return np.sort(kept['losses'])


def find_anomalies(dcgan, config, how: How, pictures: Pictures, held_out) -> None:
    """Write anomaly.csv and anomaly.png, the pictures with the highest scores first.

    With pictures in folders `normal` and `abnormal`, also anomaly_roc.png.
    """
    found = invert(dcgan, pictures.images, pictures.labels, None, how, 'anomaly')
    print_distance('pictures', found.distances, found.first)
    path, scores = os.path.join(config.sample_dir, 'anomaly'), found.losses
    order, percentiles = np.argsort(-scores, kind='stable'), None
    if held_out is None:
        problem = 'No percentiles: no pictures are held out'
        print_line(f' [!] {problem}; give --held_out PICTURES, as normal as the data')
    else:
        percentiles = 100 * np.searchsorted(held_out, scores) / len(held_out)
        count = np.count_nonzero(percentiles >= config.anomaly_threshold)
        limit = (
            f'at or above percentile {config.anomaly_threshold:g} of {len(held_out)}'
        )
        print_line(f' [*] {count} of {len(scores)} are {limit} that were held out')
    _write_table(f'{path}.csv', config, pictures, found, percentiles)
    shown = pictures.images[order], found.images[order]
    save_beside(f'{path}.png', config, *shown, heat(*shown))
    is_abnormal = np.array(
        [name.split('/')[0] == 'abnormal' for name in pictures.names]
    )
    is_normal = np.array([name.split('/')[0] == 'normal' for name in pictures.names])
    if is_abnormal.any() and is_normal.any() and (is_normal | is_abnormal).all():
        _save_roc(f'{path}_roc.png', scores[is_normal], scores[is_abnormal])


def _write_table(path, config, pictures, found, percentiles):
    """Write a CSV of COLUMNS, a row for each picture."""
    residuals = 2 * np.prod(pictures.images.shape[1:]) * found.distances
    text = io.StringIO()
    rows = csv.writer(text, lineterminator='\n')
    rows.writerow(COLUMNS)
    for i, name in enumerate(pictures.names):
        percentile = is_anomaly = ''
        if percentiles is not None:
            percentile = f'{percentiles[i]:.2f}'
            is_anomaly = int(percentiles[i] >= config.anomaly_threshold)
        values = found.losses[i], residuals[i], found.features[i]
        score, residual, features = (f'{value:.6g}' for value in values)
        rows.writerow([name, score, percentile, residual, features, is_anomaly])
    write_bytes(path, text.getvalue().encode(errors='surrogateescape'))
    print_path(path)


def _save_roc(path, normal, abnormal):
    """Print the area under the ROC curve of scores, and draw the curve."""
    area = share_closer(normal, abnormal)
    print_line(f' [*] AUC {area:.4f}: {len(normal)} normal, {len(abnormal)} abnormal')
    limits = np.sort(np.concatenate([normal, abnormal, [np.inf]]))[::-1]
    shares = [(x[:, None] >= limits).mean(0) for x in (normal, abnormal)]
    with Extra(path), atomic_path(path) as temporary:
        figure = import_figure()(figsize=(4, 4), layout='constrained')
        axes = figure.subplots()
        axes.plot(*shares)
        axes.set(xlabel='normal pictures marked', ylabel='abnormal pictures marked')
        axes.set_title(f'AUC {area:.4f}')
        figure.savefig(temporary, format='png')
        print_path(path)
