"""Training options that the original lacks. Their defaults train exactly as it does."""

import dataclasses
from typing import Any


@dataclasses.dataclass(frozen=True)
class Options:
    """Options of the training, by the names of their flags."""

    learning_rate_d: float | None = None  # None: learning_rate
    learning_rate_g: float | None = None
    lr_schedule: str = 'constant'
    lr_decay_epochs: str = ''  # of step, such as 10,20,25; of linear, one number
    lr_decay_rate: float = 0.1  # of step
    d_steps: int = 1  # in an iteration
    g_steps: int = 2
    pretrain_d: int = 0  # iterations of D alone, before the first one
    d_dropout: float = 0.0
    label_smoothing: float = 1.0  # the label of real images
    r1: float = 0.0  # weight of the gradient penalty
    flip: bool = False
    sample_epochs: int | None = None
    ckpt_epochs: int | None = None
    profile: str = ''  # first and last iteration of a trace, such as 100,110

    @classmethod
    def of(cls, config: Any) -> 'Options':
        """The options in `config`; missing ones get their defaults."""
        fields = dataclasses.fields(cls)
        return cls(**{f.name: getattr(config, f.name, f.default) for f in fields})

    def in_graph(self) -> tuple:
        """The options that are built into the graph of an iteration."""
        of_d = self.d_dropout, self.label_smoothing, self.r1
        return self.d_steps, self.g_steps, *of_d
