"""The modes of main.py that start from pictures: --invert, --complete, --anomaly."""

import os

from dcgan.inversion import anomaly
from dcgan.inversion.complete import MASKS, complete, holes_of
from dcgan.inversion.invert import How, invert, print_distances
from dcgan.inversion.pictures import beside, heat, read_pictures, save_found
from dcgan.sampling.samples import parse_labels, save_grid
from dcgan.util.flags import Flag, Group


def run(dcgan, config, todo: set[str]) -> None:
    """Do those of the modes that are in todo, once all pictures and masks are read."""
    classes = parse_labels(config.label, dcgan.y_dim).tolist() if dcgan.y_dim else []
    effort = config.invert_starts, config.invert_steps, config.z_dist, tuple(classes)
    features, prior = config.invert_features, config.invert_prior
    modes = {
        'invert': (invert_pictures, 1.0, features, prior),
        # D's features of a picture would tell what is hidden
        'complete': (complete, 1.0, 0.0, config.lam),
        'anomaly': (anomaly.score_pictures, *anomaly.WEIGHTS),
    }
    prepared = []
    for mode, (act, *weights) in modes.items():
        if mode in todo:
            source = getattr(config, mode)
            pictures = read_pictures(source, dcgan, config, config.train_size)
            holes = [holes_of(config.mask, pictures)] if mode == 'complete' else []
            prepared.append((act, How(*weights, *effort), pictures, *holes))
    for act, how, *read in prepared:
        if config.held_out and act != anomaly.score_pictures:
            anomaly.held_out_scores(dcgan, config, how)
        act(dcgan, config, how, *read)


def invert_pictures(dcgan, config, how, pictures) -> None:
    """Write inverted.npz, for --z_file, and a grid: picture, found, difference."""
    images, path = pictures.images, os.path.join(config.sample_dir, 'inverted')
    found = invert(dcgan, images, pictures.labels, how=how)
    print_distances('pictures', found.distances, found.first)
    save_found(f'{path}.npz', pictures, found, found.images)
    shown = beside(config, images, found.images, heat(images, found.images))
    save_grid(shown, f'{path}.png', config.sheet_columns)


PICTURES = 'path task inversion'  # the marks of a mode
# fmt: off
FLAGS = Group(
    'Inversion',
    'from pictures back to z: --invert, --complete, --anomaly, ...',
    Flag('invert', '', 'Find the z of a file, a folder, or `dataset`', PICTURES),
    Flag('complete', '', 'Complete these pictures where --mask hides them', PICTURES),
    Flag('anomaly', '', 'Score how far these pictures are from samples', PICTURES),
    Flag('invert_starts', 4, 'Random z to start from; the best result is kept', least=1,
         most=1000),
    Flag('invert_steps', 500, 'Steps of Adam from each of them', least=1, most=10**6),
    Flag('invert_features', 0.0, "Weight of D's features in --invert", least=0,
         most=1e6),
    Flag('invert_prior', 0.0, 'Weight of the loss of G in --invert', least=0, most=1e6),
    Flag('lam', 0.1, 'Weight of the loss of G in --complete', least=0, most=1e6),
    Flag('mask', 'center', f'What is hidden: {", ".join(MASKS)}, a picture that is '
         'white there, or a folder with one for each', 'path'),
    Flag('blend', 'poisson', 'How holes are filled', choices=('poisson', 'none')),
    Flag('held_out', '', 'Pictures that the run has not seen, to compare with', 'path'),
    Flag('anomaly_threshold', 99.0, 'Percentile of held-out pictures from which on a '
         'picture is an anomaly', least=0, most=100),
)
