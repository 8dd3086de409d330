"""Training options that the original lacks. Their defaults train exactly as it does."""

import collections
from typing import Any

from dcgan.training.learning_rates import SCHEDULES
from dcgan.util.flags import Flag, Group

# fmt: off
FLAGS = Group(
    'Training',
    'how networks are updated, docs/recipes.md: --ema, --r1, ...',
    Flag('learning_rate_d', None, 'Learning rate of D; default: --learning_rate',
         'training result', type=float, least=0),
    Flag('learning_rate_g', None, 'Learning rate of G; default: --learning_rate',
         'training result', type=float, least=0),
    Flag('lr_schedule', 'constant', 'Schedule of the learning rates; step multiplies '
         'them by --lr_decay_rate at each of --lr_decay_epochs, linear lowers them to '
         'zero from that epoch to the last', 'training result', choices=SCHEDULES),
    Flag('lr_decay_epochs', '', 'Epochs of --lr_schedule, such as 10,20,25; linear: '
         'one', 'training result'),
    Flag('lr_decay_rate', 0.1, 'Factor of --lr_schedule step', 'training result',
         least=0),
    Flag('d_steps', 1, 'Updates of D in an iteration', 'training result', least=1),
    Flag('g_steps', 2, 'Updates of G in an iteration', 'training result', least=1),
    Flag('pretrain_d', 0, 'Iterations that train D alone, before the first one',
         'training result', least=0),
    Flag('d_dropout', 0.0, 'Share of the units of D that an update leaves out, after '
         'each hidden layer', 'training result', least=0, most=0.99),
    Flag('label_smoothing', 1.0, 'Label of real images in updates of D, such as 0.9; '
         'generated ones have 0', 'training result', least=0.5, most=1),
    Flag('r1', 0.0, "Weight of a penalty on D's gradient at real images, such as 10; "
         'keeps G varied', 'training result', least=0),
    Flag('ema', 0.0, "Rate of moving averages of G's weights, such as 0.999, from "
         'which samples are drawn; 0: none, and the raw weights of a model that has '
         'averages', 'model result', least=0, most=0.999999),
    Flag('flip', False, 'Mirror half of the images, others in each epoch',
         'training result'),
    Flag('sample_epochs', None, 'Epochs between two further image grids, at their ends',
         'training', type=int, least=1),
    Flag('ckpt_epochs', None, 'Epochs between two further checkpoints, at their ends',
         'training', type=int, least=1),
    Flag('resume_step', None, 'Iteration of the checkpoint to use; default: the newest',
         type=int, least=0),
    Flag('profile', '', 'Iterations of which to write a trace to logs/, such as '
         '100,110'),
)
# fmt: on
DEFAULTS = {flag.name: flag.default for flag in FLAGS.flags}


class Options(collections.namedtuple('Options', DEFAULTS, defaults=DEFAULTS.values())):
    """The values of these flags."""

    @classmethod
    def of(cls, config: Any) -> 'Options':
        """The options in `config`; missing ones get their defaults."""
        return cls(*(getattr(config, *option) for option in DEFAULTS.items()))
