"""Train DCGAN, or draw samples from a trained model.

    python main.py --dataset mnist --train          28x28 digits by class, in data/mnist
    python main.py --dataset mnist                  samples of the newest mnist run
    python main.py --dataset celebA --crop --train  64x64 faces, in data/celebA/*.jpg
    python main.py --dataset digits --train         28x28 digits that are drawn first
    python main.py --dataset cats --input_fname_pattern '*.png' --train
    python main.py --out_name NAME --train          resume the run of that name

A run is a folder under --out_dir: FLAGS.json, checkpoint/, samples/, logs/, lock.
"""

import contextlib
import os
import pprint
import random
import signal
import sys
import threading
import traceback

from dcgan.util import quiet_import

HANDLERS = {}  # of signals, from before
if (
    __name__ == '__main__'
):  # importing TensorFlow takes seconds: until then, end at once
    for number in (signal.SIGINT, signal.SIGTERM):
        HANDLERS[number] = signal.signal(number, quiet_import.exit_at_once)

quiet_import.import_tensorflow()

# ruff: noqa: E402
import numpy as np
import tensorflow.compat.v1 as tf

from dcgan.compute.devices import print_device
from dcgan.compute.precision import PRECISIONS
from dcgan.compute.session import repeat_results
from dcgan.compute.workers import Workers
from dcgan.data.celeba import PARTITIONS
from dcgan.data.image_folder import UnusableImages
from dcgan.data.images import ignore_pillow_warnings
from dcgan.evaluation.encode import encode
from dcgan.evaluation.evaluate import evaluate
from dcgan.page.server import serve
from dcgan.record.curves import draw_runs
from dcgan.runs import command_line, settings
from dcgan.runs.launch_workers import joined
from dcgan.runs.run import RunLocks, lock_run, start_run
from dcgan.sampling.export import write_exports
from dcgan.sampling.progress_gif import make_progress_gif
from dcgan.sampling.samples import GRID_IMAGES, save_samples
from dcgan.sampling.visualize import VISUALIZE_OPTIONS
from dcgan.training.learning_rates import SCHEDULES
from dcgan.util import z
from dcgan.util.cores import usable_cores
from dcgan.util.errors import Interrupted, UserError
from dcgan.util.output import error_line, escape_output
from dcgan.util.signals import interrupt, stop_signals
from model import DCGAN
from utils import show_all_variables, visualize

tf.disable_eager_execution()
flags = tf.app.flags
FLAGS = flags.FLAGS
command_line.forget_flags(FLAGS)  # of an earlier run in this interpreter, as by %run

flags.DEFINE_boolean('train', False, 'Train a model; without it, use a trained one')
flags.DEFINE_integer('epoch', 25, 'Epochs of the whole training', lower_bound=1)
flags.DEFINE_float(
    'learning_rate', 0.0002, 'Learning rate of both Adam optimizers', lower_bound=0
)
flags.DEFINE_float(
    'beta1', 0.5, 'beta1 of both Adam optimizers', lower_bound=0, upper_bound=1
)
flags.DEFINE_float('train_size', np.inf, 'Images used in an epoch, at most')
flags.DEFINE_integer('batch_size', 64, 'Images in a batch', lower_bound=1)
flags.DEFINE_integer('z_dim', 100, 'Dimensions of z', lower_bound=1)
Z_DISTRIBUTIONS = list(z.Z_DISTRIBUTIONS)
flags.DEFINE_enum('z_dist', 'uniform_signed', Z_DISTRIBUTIONS, 'Distribution of z')
WIDTHS = {
    'gf_dim': (64, "Filters of the generator's last hidden layer"),
    'df_dim': (64, "Filters of the discriminator's first layer"),
    'gfc_dim': (1024, "Units of a conditional generator's first layer"),
    'dfc_dim': (1024, "Units of a conditional discriminator's dense layer"),
}
for name, (default, text) in WIDTHS.items():
    flags.DEFINE_integer(name, default, text, lower_bound=1)
flags.DEFINE_enum(
    'precision',
    'float32',
    PRECISIONS,
    'Type in which layers and gradients are computed during training; tf32 (on a GPU) '
    'and bfloat16 are faster on devices that have units for them',
)
flags.DEFINE_boolean(
    'xla', None, 'Compile an iteration by XLA; default: where TensorFlow sees a GPU'
)
flags.DEFINE_integer(
    'seed',
    None,
    'Seed of all random numbers, to repeat a run; without it, initial weights differ '
    'from run to run, and so does z, except on IDX files, which seed NumPy with 547',
    lower_bound=0,
    upper_bound=2**32 - 1,
)

flags.DEFINE_enum(
    'recipe',
    'faithful',
    settings.RECIPES,
    'Way to train: best sets flags that are not given, see docs/recipes.md',
)
for name in 'learning_rate_d', 'learning_rate_g':
    network = name[-1].upper()
    text = f'Learning rate of {network}; default: --learning_rate'
    flags.DEFINE_float(name, None, text, lower_bound=0)
flags.DEFINE_enum(
    'lr_schedule',
    'constant',
    SCHEDULES,
    'Course of the learning rates: step multiplies them by --lr_decay_rate at each of '
    '--lr_decay_epochs, linear lowers them to zero from that epoch to the last',
)
flags.DEFINE_string(
    'lr_decay_epochs', '', 'Epochs of --lr_schedule, such as 10,20,25; linear: one'
)
flags.DEFINE_float('lr_decay_rate', 0.1, 'Factor of --lr_schedule step', lower_bound=0)
for name, default in ('d_steps', 1), ('g_steps', 2):
    text = f'Updates of {name[0].upper()} in an iteration'
    flags.DEFINE_integer(name, default, text, lower_bound=1)
flags.DEFINE_integer(
    'pretrain_d', 0, 'Iterations of D alone, before the first one', lower_bound=0
)
flags.DEFINE_float(
    'd_dropout',
    0.0,
    'Share of the units of D that an update leaves out, after each hidden layer',
    lower_bound=0,
    upper_bound=0.99,
)
flags.DEFINE_float(
    'label_smoothing',
    1.0,
    'Label of real images in updates of D, such as 0.9; generated ones have 0',
    lower_bound=0.5,
    upper_bound=1,
)
flags.DEFINE_float(
    'r1',
    0.0,
    "Weight of a penalty on D's gradient at real images, such as 10; keeps G varied",
    lower_bound=0,
)
flags.DEFINE_float(
    'ema',
    0.0,
    "Rate of moving averages of G's weights, such as 0.999, from which samples are "
    'drawn; 0: none',
    lower_bound=0,
    upper_bound=0.999999,
)
flags.DEFINE_boolean('noema', False, 'Use the plain weights of G, not the averages')
flags.DEFINE_boolean('flip', False, 'Mirror half of the images, others in each epoch')

flags.DEFINE_string('dataset', 'celebA', 'Folder in --data_dir: images or IDX files')
flags.DEFINE_string('data_dir', './data', 'Folder of the data sets')
flags.DEFINE_string(
    'input_fname_pattern',
    '*.jpg',
    'Glob of the image files, ** for nested folders; without this flag, other image '
    'types are used if there is no *.jpg',
)
flags.DEFINE_boolean('conditional', False, 'Each folder in the data set is a class')
flags.DEFINE_string(
    'attributes',
    '',
    "Attributes in CelebA's list, such as Male,Smiling: each combination is a class",
)
flags.DEFINE_string(
    'labels', '', 'CSV file of classes, with a row `name,label` for each image'
)
flags.DEFINE_boolean('unconditional', False, 'Ignore the labels of IDX files')
flags.DEFINE_boolean('grayscale', False, 'Read images as grayscale')
flags.DEFINE_enum(
    'partition',
    'all',
    ['all', *PARTITIONS],
    'CelebA images to use, by list_eval_partition.txt',
)
flags.DEFINE_boolean('bbox', False, 'Crop CelebA images by list_bbox_celeba.txt')
flags.DEFINE_string(
    'background',
    '',
    'Color under transparent pixels, such as white or #20a0ff; default: alpha is '
    'dropped, so that they show what lies under them',
)
flags.DEFINE_boolean(
    'crop', False, 'Use the center of each image, --input_height x --input_width'
)
flags.DEFINE_integer(
    'input_height', 108, 'Height of the center crop in pixels', lower_bound=1
)
flags.DEFINE_integer(
    'input_width',
    None,
    'Width of the center crop in pixels; default: --input_height',
    lower_bound=1,
)
flags.DEFINE_integer(
    'output_height', 64, 'Height of generated images in pixels', lower_bound=1
)
flags.DEFINE_integer(
    'output_width',
    None,
    'Width of generated images in pixels; default: --output_height',
    lower_bound=1,
)
flags.DEFINE_integer(
    'num_workers',
    min(4, usable_cores()),
    'Processes that decode images ahead of training; 0 decodes in the main process',
    lower_bound=0,
)
flags.DEFINE_boolean(
    'cache', False, 'Keep decoded images in a file, for later epochs and runs'
)

flags.DEFINE_integer(
    'workers',
    1,
    'Processes on this machine that train together, each on a GPU if there are any; on '
    'several machines, set TF_CONFIG instead, see docs/workers.md',
    lower_bound=1,
)
flags.DEFINE_float(
    'worker_timeout',
    300,
    'Seconds after which training ends because a worker does not answer',
    lower_bound=1,
)

flags.DEFINE_string('out_dir', './out', 'Folder of the run folders')
flags.DEFINE_string(
    'out_name',
    '',
    'Name of the run folder; default: when training, a new name made of the time and '
    'the settings; otherwise the newest run of --dataset',
)
flags.DEFINE_string(
    'checkpoint_dir', 'checkpoint', 'Folder of checkpoints, in the run folder'
)
flags.DEFINE_string('sample_dir', 'samples', 'Folder of images, in the run folder')
flags.DEFINE_integer(
    'max_to_keep',
    1,
    'Checkpoints to keep, besides a final one that is off the schedule; 0 keeps all',
    lower_bound=0,
)
flags.DEFINE_integer(
    'resume_step',
    None,
    'Iteration of the checkpoint to use; default: the newest',
    lower_bound=0,
)
flags.DEFINE_integer(
    'sample_freq', 200, 'Iterations between two grids of samples', lower_bound=1
)
flags.DEFINE_integer(
    'ckpt_freq', 200, 'Iterations between two checkpoints', lower_bound=1
)
for name, what in ('sample_epochs', 'image grids'), ('ckpt_epochs', 'checkpoints'):
    flags.DEFINE_integer(
        name, None, f'Epochs between two further {what}, at their ends', lower_bound=1
    )
flags.DEFINE_boolean(
    'G_img_sum', False, 'Write generated images to the TensorBoard summaries'
)
flags.DEFINE_boolean('debug', False, 'Print the traceback before an error message')

flags.DEFINE_boolean('visualize', False, 'Draw what --visualize_option says')
flags.DEFINE_enum(
    'visualize_option',
    '1',
    [*map(str, range(len(VISUALIZE_OPTIONS))), *VISUALIZE_OPTIONS],
    'Latent-space visualization, see docs/samples.md, by number or name',
)
flags.DEFINE_string(
    'arithmetic',
    '0,1,2-3,4,5+6,7,8',
    'For --visualize_option arithmetic: sets of seeds or, with --z_file, of indices',
)
flags.DEFINE_string(
    'z_file', '', 'File that --npz wrote: draws its samples, or its z for --arithmetic'
)
flags.DEFINE_boolean(
    'export', False, 'Write the weights to export_b{batch_size} in --checkpoint_dir'
)
flags.DEFINE_boolean('freeze', False, 'Write the sampler as a frozen graph')
flags.DEFINE_boolean('saved_model', False, 'Write the sampler as a SavedModel')
flags.DEFINE_boolean(
    'evaluate',
    False,
    'Compare samples with the data set, see docs/evaluation.md: distances, precision, '
    'recall, accuracy, copies',
)
flags.DEFINE_integer('evaluate_samples', 10000, 'Samples to evaluate', lower_bound=4)
flags.DEFINE_string(
    'features',
    '',
    'Frozen graph or SavedModel that gives features to --evaluate; default: Inception, '
    'if download.py has fetched it',
)
flags.DEFINE_string(
    'encode', '', "Write D's features of the data set to this .npz file"
)
flags.DEFINE_string(
    'curves', '', 'Draw the curves of these runs, such as RUN or RUN,RUN, and end'
)
flags.DEFINE_string(
    'profile', '', 'Iterations of which to write a trace to logs/, such as 100,110'
)
flags.DEFINE_boolean('gif', False, 'Make an animation of the grids of the training')

flags.DEFINE_boolean(
    'page', False, 'Serve a page on which to explore the model, see docs/page.md'
)
flags.DEFINE_string(
    'page_host', '127.0.0.1', 'Address of that page; others let other machines in'
)
flags.DEFINE_integer(
    'page_port', None, 'Its port; default: the first free one from 8100', 0, 65535
)

flags.DEFINE_integer(
    'generate_test_images', 100, 'Samples to draw, as one grid', lower_bound=1
)
flags.DEFINE_integer(
    'sheet_images', GRID_IMAGES, 'Samples on that grid, at most', lower_bound=1
)
flags.DEFINE_integer(
    'sheet_columns', None, 'Columns of that grid; default: a square', lower_bound=1
)
flags.DEFINE_string(
    'label',
    '',
    'Classes of the samples, by number or name, such as 7 or 0,1,2; default: all',
)
flags.DEFINE_boolean('separate_images', False, 'Also write a file for each sample')
flags.DEFINE_boolean('npz', False, 'Also write samples, labels and z as arrays')

OWN_FLAGS = command_line.own_flags(FLAGS, sys.modules[__name__])
PATHS = ['data_dir', 'out_dir', 'out_name', 'checkpoint_dir', 'sample_dir', 'z_file']
PATHS += ['features', 'encode']
# arguments of DCGAN that are flags of the same name
ARGUMENTS = [*settings.SIZES, 'crop', 'batch_size', 'z_dim', 'max_to_keep']
ARGUMENTS += ['gf_dim', 'df_dim', 'gfc_dim', 'dfc_dim', 'precision', 'xla', 'ema']
ARGUMENTS += ['checkpoint_dir', 'sample_dir', 'out_dir', 'partition', 'bbox']
ARGUMENTS += ['background', 'attributes', 'labels', 'cache', 'num_workers']


def main(argv):
    config = command_line.read_flags(argv, FLAGS, OWN_FLAGS, PATHS)
    if config.curves:
        draw_runs(config.curves, config.out_dir)
        return
    try:
        with tf.Graph().as_default():  # main() may run again in one interpreter
            use(config)
    except UnusableImages as error:
        raise error.name_all(config.out_dir) from error


def use(config):
    """Train, or use a trained model, as config says."""
    if config.train:
        with joined(config, FLAGS, __file__) as (workers, *dims):
            use_model(config, *dims, None, workers)
    else:
        use_model(config, *settings.find_run(config, FLAGS), Workers())


def use_model(config, y_dim, c_dim, path, workers):
    """Build the model, train it or load it from `path`, and write what is asked."""
    repeat_results(config.seed)
    if config.seed is not None:
        random.seed(config.seed)
        np.random.seed(config.seed)
    with (
        contextlib.closing(RunLocks()) as locks,
        tf.Session(workers.target, config=workers.session_config()) as sess,
    ):
        if config.train and workers.is_chief:
            lock_run(config, locks)
        dcgan = build_model(sess, config, y_dim, c_dim, workers)
        if config.train:
            if workers.count > 1:
                workers.require_same({'data': dcgan.data.digest(by_time=False)})
            checkpoint = dcgan.check(config)
            if not (config.out_name or os.path.isabs(config.checkpoint_dir)):
                checkpoint = None  # the run gets a folder of its own
        if config.train and workers.is_chief:
            start_run(config, FLAGS, dcgan, locks)
        if config.seed is not None:  # IDX files have seeded NumPy with 547
            np.random.seed(config.seed)
        pprint.pprint(vars(config))
        show_all_variables()
        if config.train:
            seed = (
                'none (--seed N repeats a run)' if config.seed is None else config.seed
            )
            print(f' [*] Seed: {seed}')
            print_device(config.precision)
            print(f' [*] {config.dataset}: {dcgan.data.contents}', flush=True)
            step = dcgan.train(config, checkpoint)
            locks.close()
            if not workers.is_chief:
                return
        else:
            _, step = dcgan.load(config.checkpoint_dir, config.resume_step, path)
            which = 'Run' if config.out_name else f'Newest run of {config.dataset}:'
            print(f' [*] {which} {config.out_dir}, iteration {step}', flush=True)
        write_outputs(sess, dcgan, config, step)


def build_model(sess, config, y_dim, c_dim, workers):
    pattern = FLAGS['input_fname_pattern']
    is_chosen = pattern.present or config.input_fname_pattern != pattern.default
    return DCGAN(
        sess,
        **{name: getattr(config, name) for name in ARGUMENTS},
        sample_num=config.batch_size,
        y_dim=y_dim,
        c_dim=c_dim,
        workers=workers,
        by_class=settings.is_by_class(config, y_dim),
        dataset_name=config.dataset,
        data_dir=config.data_dir if settings.needs_data(config) else None,
        input_fname_pattern=config.input_fname_pattern if is_chosen else None,
    )


def write_outputs(sess, dcgan, config, step):
    """Write what the flags ask for; samples if that is nothing and none was trained."""
    write_exports(dcgan, config, step)
    if settings.visualizes(config, FLAGS):
        visualize(sess, dcgan, config, config.visualize_option, config.sample_dir)
    if config.evaluate:
        evaluate(sess, dcgan, config, step)
    if config.encode:
        encode(sess, dcgan, config.encode, config.train_size)
    if config.gif:
        make_progress_gif(config.sample_dir)
    if settings.samples_wanted(config, FLAGS):
        save_samples(sess, dcgan, config, config.sample_dir)
    if config.page:
        serve(dcgan, config, FLAGS)


def run(argv=None):
    """main() with these arguments, or the command line's. Ends in SystemExit.

    An error that the user can do something about is printed in one line; with --debug,
    its traceback comes first.
    """
    arguments = sys.argv if argv is None else argv
    if {'-h', '-help', '--help', '--helpshort'} & set(arguments[1:]):
        print(command_line.help_text(__doc__, FLAGS, OWN_FLAGS))
        sys.exit()
    handlers = {n: signal.getsignal(n) for n in stop_signals()}
    for number in handlers:
        signal.signal(number, interrupt)
    threading.excepthook = quiet_import.report_thread_error
    escape_output()
    ignore_pillow_warnings()
    try:
        tf.app.run(main, command_line.todays_arguments(arguments, FLAGS))
    except (UserError, OSError, flags.Error, tf.errors.OpError) as error:
        if FLAGS.is_parsed() and FLAGS.debug:
            traceback.print_exc()
        sys.exit(f'main.py: {error_line(error)}')
    except Interrupted as interrupted:
        print(f'main.py: {interrupted}', file=sys.stderr)
        sys.exit(128 + interrupted.number)
    finally:  # a notebook goes on
        for number, handler in {**handlers, **HANDLERS}.items():
            signal.signal(number, handler)


if __name__ == '__main__':
    run()
