"""Lightning's advice that is not for users of these commands."""

import logging
import warnings

ADVICE = (
    ".*does not have many workers.*",
    ".*log_every_n_steps.*",
    ".*LeafSpec.*",
    ".*in eval mode at the start of training.*",
    ".*sync_dist=True.*",  # what is logged has been reduced already
    ".*DistributedSampler.*",
    "Experiment logs directory .* exists and is not empty.*",
)


def quieten() -> None:
    """Hides advice about workers, hardware and frozen modules."""
    for library in ("pytorch_lightning", "lightning_fabric"):
        logging.getLogger(library).setLevel(logging.WARNING)
    for advice in ADVICE:
        warnings.filterwarnings("ignore", message=advice)
