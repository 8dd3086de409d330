"""Train DCGAN, or draw samples from what it learned.

    python main.py --dataset mnist --train          28x28 digits, by class: data/mnist
    python main.py --dataset mnist                  samples of the newest mnist run
    python main.py --dataset celebA --crop --train  64x64 faces: data/celebA/*.jpg
    python main.py --dataset digits --train         28x28 digits, made on the spot
    python main.py --dataset cats --input_fname_pattern '*.png' --train
    python main.py --out_name NAME --train          the run of that name, continued

A run is a folder under --out_dir: FLAGS.json, checkpoint/, samples/, logs/, lock.
"""

import glob
import itertools
import logging
import os
import pprint
import random
import signal
import sys
import threading
import traceback
import types

from dcgan.startup import import_tensorflow

if __name__ == '__main__':
    # importing TensorFlow takes seconds; nothing is to be saved yet, so end at once
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda number, frame: os._exit(128 + number))


import_tensorflow()
# no notes on what is meant for TF1 graphs; its errors are raised as well
logging.getLogger('tensorflow').setLevel(logging.CRITICAL)

import numpy as np  # noqa: E402
import tensorflow.compat.v1 as tf  # noqa: E402

from dcgan import runs, samples, signals  # noqa: E402
from dcgan.checkpoints import checkpoint_dims, newest_checkpoint  # noqa: E402
from dcgan.datasets import PARTITIONS, class_names  # noqa: E402
from dcgan.errors import Interrupted, UserError, short_reason  # noqa: E402
from dcgan.files import expand_path, timestamp, write_json  # noqa: E402
from dcgan.idx import idx_summary  # noqa: E402
from dcgan.images import ignore_pillow_warnings  # noqa: E402
from dcgan.kernels import PRECISIONS  # noqa: E402
from model import DCGAN  # noqa: E402

tf.disable_eager_execution()
flags = tf.app.flags
FLAGS = flags.FLAGS

# Training
flags.DEFINE_boolean('train', False, 'Train; without it, use what a run has learned')
flags.DEFINE_integer('epoch', 25, 'Epochs to train, in all', lower_bound=1)
flags.DEFINE_float('learning_rate', 0.0002, "Adam's learning rate", lower_bound=0)
flags.DEFINE_float('beta1', 0.5, "Adam's beta1", lower_bound=0, upper_bound=1)
flags.DEFINE_float('train_size', np.inf, 'Images used in an epoch, at most')
flags.DEFINE_integer('batch_size', 64, 'Pictures in a batch', lower_bound=1)
flags.DEFINE_integer('z_dim', 100, 'Dimensions of z', lower_bound=1)
flags.DEFINE_enum(
    'z_dist', 'uniform_signed', list(samples.Z_DISTRIBUTIONS), 'Distribution of z'
)
flags.DEFINE_integer('gf_dim', 64, "Filters of G's last hidden layer", lower_bound=1)
flags.DEFINE_integer('df_dim', 64, "Filters of D's first layer", lower_bound=1)
flags.DEFINE_integer(
    'gfc_dim', 1024, "Units of a conditional G's first layer", lower_bound=1
)
flags.DEFINE_integer(
    'dfc_dim', 1024, "Units of a conditional D's dense layer", lower_bound=1
)
flags.DEFINE_enum(
    'precision',
    'float32',
    PRECISIONS,
    'Of layers and gradients in training; bfloat16: faster, where the processor has it',
)
flags.DEFINE_integer(
    'seed',
    None,
    'Seed of all random numbers; by default weights, and z but on IDX sets, vary',
    lower_bound=0,
    upper_bound=2**32 - 1,
)

# Data
flags.DEFINE_string('dataset', 'celebA', 'Folder under data_dir: pictures or IDX files')
flags.DEFINE_string('data_dir', './data', 'Where the data sets are')
flags.DEFINE_string(
    'input_fname_pattern',
    '*.jpg',
    'Which files are pictures, ** nests; if not given, and there is no *.jpg, all are',
)
flags.DEFINE_boolean('conditional', False, 'Learn the class folders in the data set')
flags.DEFINE_boolean('unconditional', False, 'Leave the labels of IDX files aside')
flags.DEFINE_boolean('grayscale', False, 'Read pictures in grey')
flags.DEFINE_enum(
    'partition',
    'all',
    ['all', *PARTITIONS],
    'Pictures to use, by list_eval_partition.txt',
)
flags.DEFINE_boolean('bbox', False, 'Crop to the boxes of list_bbox_celeba.txt')
flags.DEFINE_boolean('crop', False, 'Take the centre of each picture')
flags.DEFINE_integer(
    'input_height', 108, 'Height of that centre, pixels', lower_bound=1
)
flags.DEFINE_integer(
    'input_width', None, 'Its width; default: its height', lower_bound=1
)
flags.DEFINE_integer(
    'num_workers',
    min(4, runs.usable_cores()),
    'Processes that decode pictures ahead of the training; 0: none',
    lower_bound=0,
)
flags.DEFINE_boolean('cache', False, 'Keep decoded pictures in a file for later epochs')
flags.DEFINE_integer('output_height', 64, 'Height of what is drawn', lower_bound=1)
flags.DEFINE_integer(
    'output_width', None, 'Its width; default: its height', lower_bound=1
)

# Where a run goes, and what it leaves
flags.DEFINE_string('out_dir', './out', 'Where the run folders are')
flags.DEFINE_string('out_name', '', 'Run folder; default: made up, or the newest run')
flags.DEFINE_string('checkpoint_dir', 'checkpoint', 'Folder in the run folder')
flags.DEFINE_string('sample_dir', 'samples', 'Folder in the run folder')
flags.DEFINE_integer(
    'max_to_keep', 1, 'Checkpoints to keep besides the last; 0: all', lower_bound=0
)
flags.DEFINE_integer(
    'resume_step', None, 'Checkpoint to use; default: the newest', lower_bound=0
)
flags.DEFINE_integer('sample_freq', 200, 'Iterations between sheets', lower_bound=1)
flags.DEFINE_integer('ckpt_freq', 200, 'Iterations between checkpoints', lower_bound=1)
flags.DEFINE_boolean('G_img_sum', False, 'Write generated pictures to the summaries')

# What to make of a trained model; without any of these, samples
flags.DEFINE_boolean('visualize', False, 'Draw what z does')
flags.DEFINE_enum(
    'visualize_option',
    '1',
    [*map(str, range(len(samples.VISUALIZE_OPTIONS))), *samples.VISUALIZE_OPTIONS],
    'How, see the README',
)
flags.DEFINE_string(
    'arithmetic',
    '0,1,2-3,4,5+6,7,8',
    'Three sets of seeds of z or, with z_file, indices in it',
)
flags.DEFINE_string('z_file', '', 'An .npz of samples, for --arithmetic')
flags.DEFINE_boolean('export', False, 'Write the checkpoint to export_b{batch_size}')
flags.DEFINE_boolean('freeze', False, 'Write the sampler as a graph of constants')
flags.DEFINE_boolean('saved_model', False, 'Write the sampler as a SavedModel')
flags.DEFINE_boolean('gif', False, 'Animate the sheets of the training')

# Samples
flags.DEFINE_integer(
    'generate_test_images', 100, 'How many samples to draw', lower_bound=1
)
flags.DEFINE_string('label', '', 'Classes to draw, as 7 or 0,1,2; default: all')
flags.DEFINE_boolean('separate_images', False, 'Write each sample to its own file, too')
flags.DEFINE_boolean('npz', False, 'Write samples, labels and z as arrays, too')

flags.DEFINE_boolean('debug', False, 'Show the traceback of an error, too')

OWN_FLAGS = [
    flag.name for flag in FLAGS.get_key_flags_for_module(sys.modules[__name__])
]
SIZES = ['input_height', 'input_width', 'output_height', 'output_width']
# what its FLAGS.json says of a run's model and, further, of its training
MODEL_FLAGS = ['dataset', 'batch_size', 'z_dim', 'z_dist', *SIZES]
MODEL_FLAGS += ['gf_dim', 'df_dim', 'gfc_dim', 'dfc_dim']
TRAINING_FLAGS = ['epoch', 'learning_rate', 'beta1', 'train_size', 'seed', 'data_dir']
TRAINING_FLAGS += ['input_fname_pattern', 'conditional', 'unconditional', 'grayscale']
TRAINING_FLAGS += ['partition', 'bbox', 'crop', 'cache', 'max_to_keep', 'sample_freq']
TRAINING_FLAGS += ['ckpt_freq', 'G_img_sum', 'gif', 'precision']


def main(argv):
    config = read_flags(argv)
    path = None  # of the checkpoint to use
    if config.train:
        y_dim, c_dim = prepare_training(config)
    else:
        y_dim, c_dim, path = find_run(config)
    pattern = FLAGS['input_fname_pattern']
    if config.seed is not None:
        random.seed(config.seed)
        np.random.seed(config.seed)
        tf.set_random_seed(config.seed)
    lock = None
    if config.train and config.out_name and os.path.isdir(config.out_dir):
        lock = runs.lock_run(config.out_dir)
    with tf.Session(config=session_config()) as sess:
        dcgan = DCGAN(
            sess,
            input_height=config.input_height,
            input_width=config.input_width,
            crop=config.crop,
            batch_size=config.batch_size,
            sample_num=config.batch_size,
            output_height=config.output_height,
            output_width=config.output_width,
            y_dim=y_dim,
            z_dim=config.z_dim,
            gf_dim=config.gf_dim,
            df_dim=config.df_dim,
            gfc_dim=config.gfc_dim,
            dfc_dim=config.dfc_dim,
            c_dim=c_dim,
            dataset_name=config.dataset,
            max_to_keep=config.max_to_keep,
            input_fname_pattern=config.input_fname_pattern
            if pattern.present or config.input_fname_pattern != pattern.default
            else None,
            checkpoint_dir=config.checkpoint_dir,
            sample_dir=config.sample_dir,
            out_dir=config.out_dir,
            data_dir=config.data_dir if config.train else None,
            precision=config.precision,
            partition=config.partition,
            bbox=config.bbox,
            cache=config.cache,
            num_workers=config.num_workers,
        )
        if config.train:
            checkpoint = dcgan.check(config)
            if not config.out_name:
                checkpoint = None  # the run gets a folder of its own
            lock = start_run(config, dcgan, lock)
        pprint.pprint(vars(config))
        print_variables(tf.trainable_variables())
        if config.train:
            print_device()
            print(f' [*] {config.dataset}: {dcgan.data.contents}', flush=True)
            if config.precision != 'float32':
                print(
                    f' [*] Trained in {config.precision}: layers and gradients; '
                    'weights, losses and samples: float32'
                )
            if config.seed is not None:  # of which IDX files leave nothing
                np.random.seed(config.seed)
            step = dcgan.train(config, checkpoint)
            lock.close()
        else:
            _, step = dcgan.load(config.checkpoint_dir, config.resume_step, path)
            which = (
                'Run' if FLAGS['out_name'].value else f'Newest run of {config.dataset}:'
            )
            print(f' [*] {which} {config.out_dir}, iteration {step}', flush=True)
        use(sess, dcgan, config, step)


def session_config():
    """How the session runs: on MNIST in 7% less memory than by default, no slower."""
    config = tf.ConfigProto()
    config.gpu_options.allow_growth = True
    # just those that pay: constants folded, say, the zeros that Adam starts from would
    # stay in memory
    rewrites = config.graph_options.rewrite_options
    rewrites.optimizers.extend(['pruning', 'dependency', 'layout', 'remap'])
    config.graph_options.optimizer_options.opt_level = tf.OptimizerOptions.L0
    return config


def read_flags(argv):
    """The flags as a namespace, paths expanded. Raises UserError for what is none."""
    # `--train True` was how older versions had it, and still does what it says
    stray = [argument for argument in argv[1:] if argument.lower() != 'true']
    if stray:
        raise UserError(
            f'{stray[0]!r} is not a flag, see --help; a switch takes no value, it is '
            'given as --crop or --nocrop'
        )
    config = types.SimpleNamespace(**{name: FLAGS[name].value for name in OWN_FLAGS})
    paths = (
        'data_dir',
        'out_dir',
        'out_name',
        'checkpoint_dir',
        'sample_dir',
        'z_file',
    )
    for name in paths:
        setattr(config, name, expand_path(getattr(config, name)))
    if os.path.isfile(config.out_dir):
        raise UserError(f'{config.out_dir}: is a file; choose another --out_dir')
    return config


def prepare_training(config):
    """Settle data, sizes and run folder; returns (y_dim or None, c_dim)."""
    recorded = {}
    if config.out_name:
        recorded = runs.recorded_flags(os.path.join(config.out_dir, config.out_name))
        adopt(config, recorded, MODEL_FLAGS + TRAINING_FLAGS)
    folder = os.path.join(config.data_dir, config.dataset)
    if config.dataset == 'digits' and not os.path.exists(folder):
        from dcgan.digits import make_digits  # SciPy takes its time and memory

        make_digits(config.data_dir)
    labelled = idx_summary(folder)  # (height, width, classes), or None: pictures
    adopt(config, {**(sizes(*labelled[:2]) if labelled else {}), **recorded}, SIZES)
    y_dim = count_classes(config, folder, labelled)
    if config.out_name:
        place(config, os.path.join(config.out_dir, config.out_name))
    else:
        place(config, free_folder(os.path.join(config.out_dir, run_name(config))))
    return y_dim, 1 if config.grayscale else 3


def run_name(config):
    """The name that the original gives to a run."""
    # only the last part of a path: a run is one folder
    data_name, dataset = (
        os.path.basename(os.path.normpath(path))
        for path in (config.data_dir, config.dataset)
    )
    return (
        f'{timestamp()} - {data_name} - {dataset} - x{config.input_width}'
        f'.z{config.z_dim}.{config.z_dist}'
        f'.y{config.output_width}.b{config.batch_size}'
    )


def free_folder(path):
    """`path` or, where that is taken, the first of `path - 2`, `path - 3`, ..."""
    numbered = (f'{path} - {number}' for number in itertools.count(2))
    return next(p for p in itertools.chain([path], numbered) if not os.path.lexists(p))


def count_classes(config, folder, labelled):
    """y_dim: the classes to learn, or None. UserError for flags that do not fit."""
    if config.conditional and config.unconditional:
        raise UserError('--conditional and --unconditional exclude each other')
    if not labelled:
        return len(class_names(folder)) if config.conditional else None
    for name in ('bbox', 'grayscale', 'partition'):
        if getattr(config, name) not in (False, 'all'):
            raise UserError(f'--{name} is for pictures, and {folder} has IDX files')
    return None if config.unconditional else labelled[2]


def find_run(config):
    """Settle which run to use; returns (y_dim or None, c_dim, its checkpoint)."""
    run_dir = os.path.join(config.out_dir, config.out_name)
    if not config.out_name:
        run_dir = runs.newest_run(config.out_dir, config.dataset, config.checkpoint_dir)
    place(config, run_dir)
    path = newest_checkpoint(config.checkpoint_dir, config.resume_step)
    if path is None:
        raise UserError(
            f'{config.checkpoint_dir}: no checkpoint is there; add --train to train '
            'this run, or name another with --out_name'
        )
    y_dim, c_dim = checkpoint_dims(path)
    recorded = runs.recorded_flags(run_dir)
    adopt(config, {**(sizes(28, 28) if y_dim else {}), **recorded}, MODEL_FLAGS)
    return y_dim, c_dim, path


def sizes(height, width):
    """Settings for pictures that are read and drawn in one size."""
    return dict(zip(SIZES, (height, width, height, width)))


def adopt(config, settings, names):
    """Take settings over where no flag gives them; a width goes with its height."""
    for name in settings.keys() & names:
        given_by = {name, name.replace('width', 'height')}
        if not any(FLAGS[flag].present for flag in given_by):
            setattr(config, name, parsed(name, settings[name]))
    config.input_width = config.input_width or config.input_height
    config.output_width = config.output_width or config.output_height


def parsed(name, value):
    """The value that a flag has in FLAGS.json. Raises UserError where it cannot be."""
    if value is None and FLAGS[name].default is None:
        return None
    try:
        return FLAGS[name].parser.parse(value)
    except (TypeError, ValueError) as error:
        raise UserError(
            f'FLAGS.json of the run: {name} {value!r}: {error}; mend it'
        ) from error


def place(config, run_dir):
    """Put the run's folders under run_dir, or where they are already."""
    recorded = runs.recorded_flags(run_dir)
    for name in ('checkpoint_dir', 'sample_dir'):
        folder = expand_path(FLAGS[name].value)
        if not FLAGS[name].present:
            folder = runs.recorded_folder(recorded, name, folder)
        setattr(config, name, os.path.join(run_dir, folder))
    config.out_dir = run_dir


def start_run(config, dcgan, lock):
    """Make the run's folders and FLAGS.json; returns its lock, made if there is none.

    A run without a name of its own gets a folder of its own, whatever other runs start
    in the same second. Raises UserError where the folders cannot be written, or the run
    is under way already.
    """
    try:
        while not config.out_name:
            parent = os.path.dirname(config.out_dir)
            os.makedirs(parent, exist_ok=True)
            try:
                os.mkdir(config.out_dir)
                config.out_name = os.path.basename(config.out_dir)
            except FileExistsError:  # another process was faster
                place(config, free_folder(os.path.join(parent, run_name(config))))
        dcgan.out_dir, dcgan.checkpoint_dir = config.out_dir, config.checkpoint_dir
        dcgan.sample_dir = config.sample_dir
        os.makedirs(config.checkpoint_dir, exist_ok=True)
        os.makedirs(config.sample_dir, exist_ok=True)
        lock = lock or runs.lock_run(config.out_dir)
        write_json(os.path.join(config.out_dir, 'FLAGS.json'), vars(config))
        return lock
    except OSError as error:
        raise UserError(
            f'{config.out_dir}: cannot be written ({error.strerror}); '
            'choose another --out_dir'
        ) from error


def print_device(nvidia='/dev/nvidia[0-9]*'):
    """Print which device trains; warn of a GPU that TensorFlow does not see."""
    gpus = tf.config.list_physical_devices('GPU')
    details = [tf.config.experimental.get_device_details(gpu) for gpu in gpus[:1]]
    names = [device.get('device_name', 'GPU') for device in details]
    print(f' [*] Device: {(names or [f"CPU, {runs.usable_cores()} cores"])[0]}')
    if not gpus and glob.glob(nvidia):
        print(
            ' [!] TensorFlow does not see the NVIDIA GPU of this machine: install '
            'tensorflow[and-cuda], and see what TF_CPP_MIN_LOG_LEVEL=0 prints'
        )


def print_variables(variables):
    """Print name, shape, count and bytes of each variable, and the sums."""
    print('---------\nVariables: name (type shape) [size]\n---------')
    count = size = 0
    for v in variables:
        n = v.shape.num_elements()
        count, size = count + n, size + n * v.dtype.size
        shape = 'x'.join(map(str, v.shape.as_list()))
        print(f'{v.name} ({v.dtype.name} {shape}) [{n}, bytes: {n * v.dtype.size}]')
    print(f'Total size of variables: {count}\nTotal bytes of variables: {size}')


def use(sess, dcgan, config, step):
    """What the flags ask for; by default, where nothing was trained, samples."""
    if config.export:
        folder = os.path.join(config.checkpoint_dir, f'export_b{config.batch_size}')
        dcgan.save(folder, step)
        print(f' [*] {folder}')
    if config.freeze:
        folder = os.path.join(config.checkpoint_dir, f'frozen_b{config.batch_size}')
        dcgan.save(folder, step, ckpt=False, frozen=True)
        print(f' [*] {folder}')
    if config.saved_model:
        folder = os.path.join(config.checkpoint_dir, 'saved_model', str(step))
        dcgan.save_sampler(folder)
        print(f' [*] {folder}')
    visualize = config.visualize or FLAGS['visualize_option'].present
    if visualize:
        option = config.visualize_option
        samples.visualize(sess, dcgan, config, option, config.sample_dir)
    if config.gif:
        samples.make_progress_gif(config.sample_dir)
    others = ('train', 'export', 'freeze', 'saved_model', 'gif')
    if any(
        FLAGS[name].present
        for name in ('generate_test_images', 'separate_images', 'npz')
    ) or not (visualize or any(getattr(config, name) for name in others)):
        samples.save_samples(sess, dcgan, config, config.sample_dir)


def report_thread_error(args):
    """Print the traceback of an error in a thread, except TensorFlow's summary thread.

    Its error is raised again by the next summary that is written.
    """
    if type(args.thread).__name__ != '_EventLoggerThread':
        threading.__excepthook__(args)


def run(argv=None):
    """main() with these arguments, or the command line's; ends in SystemExit.

    An error that the user can do something about is printed in one line, with --debug
    after its traceback.
    """
    for number in signals.stop_signals():
        signal.signal(number, signals.interrupt)
    threading.excepthook = report_thread_error
    ignore_pillow_warnings()
    try:
        tf.app.run(main, argv)
    except (UserError, OSError, flags.Error, tf.errors.OpError) as error:
        if '--debug' in (argv or sys.argv):
            traceback.print_exc()
        is_native = isinstance(error, tf.errors.OpError)
        sys.exit(f'main.py: {short_reason(error) if is_native else error}')
    except Interrupted as interrupted:
        print(f'main.py: {interrupted}', file=sys.stderr)
        sys.exit(128 + interrupted.number)


if __name__ == '__main__':
    run()
