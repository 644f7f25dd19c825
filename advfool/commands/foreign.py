"""What the parameters of other libraries' constructors allow, where their own signatures say too little."""

from typing import Annotated, Any, Literal, get_type_hints

from annotated_types import Ge, Gt, Le, Len, Lt

from advfool.utilities.kinds import (
    MOST,
    Accelerator,
    Count,
    Inside,
    Label,
    NonNegative,
    Positive,
    Share,
    Size,
    Text,
    Words,
)
from advfool.utilities.roles import Role

Decay = Annotated[float, Ge(0), Lt(1)]
Betas = Annotated[tuple[Decay, Decay], Words("two numbers from 0 to below 1")]
Endless = Annotated[int, Ge(-1), Le(MOST), Words("a whole number of at least 0, or -1 for all")]
Devices = Count | Literal["auto", -1] | Annotated[tuple[Size, ...], Len(1), Words("a list of device numbers")]
Batches = Count | Annotated[float, Gt(0), Le(1)]


class Optimizers:
    """Parameters of torch.optim."""

    lr: Positive
    betas: Betas
    eps: Positive
    weight_decay: NonNegative
    momentum: NonNegative
    dampening: NonNegative
    alpha: Decay
    rho: Decay
    lr_decay: NonNegative
    momentum_decay: NonNegative
    initial_accumulator_value: NonNegative
    lambd: NonNegative
    t0: NonNegative
    etas: Annotated[tuple[Positive, Positive], Words("two numbers above 0")]
    step_sizes: Annotated[tuple[Positive, Positive], Words("two numbers above 0")]


class Schedulers:
    """Parameters of torch.optim.lr_scheduler."""

    max_lr: Positive
    base_lr: Positive
    total_steps: Count
    epochs: Count | None
    steps_per_epoch: Count | None
    pct_start: Inside
    anneal_strategy: Literal["cos", "linear"]
    cycle_momentum: bool
    base_momentum: Decay
    max_momentum: Decay
    div_factor: Positive
    final_div_factor: Positive
    three_phase: bool
    last_epoch: Annotated[int, Ge(-1), Le(MOST)]
    step_size: Count
    step_size_up: Count
    gamma: Positive
    milestones: Annotated[tuple[Count, ...], Len(1), Words("a list of whole numbers of at least 1")]
    T_max: Count
    T_0: Count
    T_mult: Count
    eta_min: NonNegative
    total_iters: Count
    power: Positive
    factor: Positive
    start_factor: Annotated[float, Gt(0), Le(1)]
    end_factor: Share
    patience: Size
    cooldown: Size
    min_lr: NonNegative


class Trainer:
    """Parameters of pytorch_lightning.Trainer; this project counts validations in steps."""

    default_root_dir: Annotated[Text, Role.PLACE]
    accelerator: Accelerator
    devices: Devices
    num_nodes: Count
    strategy: Text
    gradient_clip_val: NonNegative | None
    gradient_clip_algorithm: Literal["norm", "value"] | None
    max_steps: Count
    min_steps: Size | None
    max_epochs: Count | None
    min_epochs: Size | None
    max_time: Text | None
    val_check_interval: Count
    check_val_every_n_epoch: Count | None
    num_sanity_val_steps: Endless
    log_every_n_steps: Size
    accumulate_grad_batches: Count
    limit_train_batches: Batches | None
    limit_val_batches: Batches | None
    limit_test_batches: Batches | None
    limit_predict_batches: Batches | None
    overfit_batches: Size | Share
    fast_dev_run: Annotated[Literal[False], Words("false: it would leave no results")]
    detect_anomaly: bool
    inference_mode: Annotated[Literal[False], Words("false: heatmaps need gradients while validating")]


class Checkpoint:
    """Parameters of pytorch_lightning.callbacks.ModelCheckpoint, and of advfool's checkpoints."""

    dirpath: Annotated[Text | None, Role.PLACE]
    filename: Label | None
    monitor: Text | None
    mode: Literal["min", "max"]
    save_top_k: Endless
    save_last: bool | Literal["link"] | None
    every_n_train_steps: Size | None
    every_n_epochs: Size | None
    auto_insert_metric_name: bool


class Stopping:
    """Parameters of pytorch_lightning.callbacks.EarlyStopping."""

    monitor: Text
    patience: Size
    mode: Literal["min", "max"]


class Progress:
    """Parameters of pytorch_lightning.callbacks.RichProgressBar."""

    refresh_rate: Size
    leave: bool


class Logger:
    """Parameters of pytorch_lightning.loggers."""

    save_dir: Annotated[Text, Role.PLACE]
    name: str | None
    version: Size | str | None
    flush_logs_every_n_steps: Count


_TABLES = {
    "torch.optim.lr_scheduler.": Schedulers,
    "torch.optim.": Optimizers,
    "pytorch_lightning.callbacks.ModelCheckpoint": Checkpoint,
    "pytorch_lightning.callbacks.EarlyStopping": Stopping,
    "advfool.training.checkpoints.": Checkpoint,
    "pytorch_lightning.loggers.": Logger,
    "pytorch_lightning.Trainer": Trainer,
    "advfool.training.callbacks.StepProgressBar": Progress,
}


def foreign_parameters(target: str) -> dict[str, Any]:
    """Find what the parameters of a constructor of another library allow, by name; empty where nothing is declared.

    Args:
        target: dotted name of the constructor.
    """
    table = next((table for start, table in _TABLES.items() if target.startswith(start)), None)
    return get_type_hints(table, include_extras=True) if table else {}
