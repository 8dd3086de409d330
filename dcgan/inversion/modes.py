"""The modes of main.py that start from pictures: --invert, --complete, --anomaly."""

import os

from dcgan.inversion import anomaly
from dcgan.inversion.complete import MASKS, complete
from dcgan.inversion.invert import How, invert
from dcgan.inversion.pictures import read_pictures
from dcgan.inversion.results import heat, print_distance, save_arrays, save_beside
from dcgan.sampling.samples import parse_labels
from dcgan.util.flags import Flag, Group


def run(dcgan, config, todo: set[str], step: int) -> None:
    """Do those of the modes that are in todo, by the weights of checkpoint `step`."""
    how = How(features=config.invert_features, prior=config.invert_prior)
    how = how._replace(starts=config.invert_starts, steps=config.invert_steps)
    how = how._replace(z_dist=config.z_dist)
    if dcgan.y_dim:
        how = how._replace(classes=(*parse_labels(config.label, dcgan.y_dim).tolist(),))
    hows = {'invert': how, 'complete': how._replace(prior=config.lam)}
    hows['anomaly'] = how._replace(**anomaly.WEIGHTS)
    for mode, how in hows.items():
        if mode not in todo:
            continue
        source, held_out = getattr(config, mode), None
        pictures = read_pictures(source, dcgan, config, config.train_size)
        if config.held_out or mode == 'anomaly':
            held_out = anomaly.held_out_scores(dcgan, config, how, step)
        if mode == 'invert':
            invert_pictures(dcgan, config, how, pictures)
        elif mode == 'complete':
            complete(dcgan, config, how, pictures)
        else:
            anomaly.find_anomalies(dcgan, config, how, pictures, held_out)


def invert_pictures(dcgan, config, how: How, pictures) -> None:
    """Write inverted.npz, for --z_file, and a grid: picture, found, difference."""
    found = invert(dcgan, pictures.images, pictures.labels, how=how)
    print_distance('pictures', found.distances, found.first)
    path = os.path.join(config.sample_dir, 'inverted')
    save_arrays(f'{path}.npz', pictures, found, found.images)
    shown = pictures.images, found.images
    save_beside(f'{path}.png', config, *shown, heat(*shown))


# fmt: off
FLAGS = Group(
    'Inversion',
    'from pictures back to z: --invert, --complete, --anomaly, ...',
    Flag('invert', '', 'Find the z of these pictures: a file, a folder, or `dataset`',
         'path task inversion'),
    Flag('complete', '', 'Complete these pictures where --mask hides them',
         'path task inversion'),
    Flag('anomaly', '', 'Score how far these pictures are from all samples',
         'path task inversion'),
    Flag('invert_starts', 4, 'Random z to start from, of which the best is kept',
         least=1, most=1000),
    Flag('invert_steps', 500, 'Steps of Adam from each of them', least=1, most=10**6),
    Flag('invert_features', 0.0, "Weight of the distance in D's last hidden layer",
         least=0),
    Flag('invert_prior', 0.0, 'Weight of the loss of G in --invert', least=0),
    Flag('lam', 0.1, 'Weight of the loss of G in --complete', least=0),
    Flag('mask', 'center', f'What is hidden: {", ".join(MASKS)}, a picture that is '
         'white there, or a folder with one for each', 'path'),
    Flag('blend', 'poisson', 'How completions are joined to what is around them',
         choices=('poisson', 'none')),
    Flag('held_out', '', 'Pictures that the run has not seen, to compare with', 'path'),
    Flag('anomaly_threshold', 99.0, 'Percentile of held-out pictures from which on a '
         'picture is an anomaly', least=0, most=100),
)
