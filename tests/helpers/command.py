"""The commands, and what their runs leave behind."""

import importlib
import io
import json
import os
import subprocess
import sys
import traceback
from pathlib import Path

import torch
from hydra.core.global_hydra import GlobalHydra
from safetensors.torch import load_file

from advfool.commands.status import SWEEP

SMALL = ["aopc.images=0", "data.limit_train=256", "data.limit_val=40", "data.limit_test=70", "model.weights=null"]
# For networks at full size:
FEW = ["faithfulness.images=1", "faithfulness.random_orders=1", "faithfulness.steps=1", "nulls.controls=[sharpened_4]"]
SMALL += ["faithfulness.images=6", "faithfulness.random_orders=2", "faithfulness.steps=2", "nulls.images=3"]


def run(folder: Path, *overrides: str, module="advfool.train", cwd=None) -> subprocess.CompletedProcess:
    """The command with its exit code and what it printed: in this process, unless it needs one of its own."""
    arguments = [f"hydra.run.dir={folder}", *overrides]
    if cwd is None and "trainer=ddp" not in overrides:
        return run_here(module, arguments)
    # Without coverage of the type checker: the command as its users run it.
    command = [sys.executable, "-m", module, *arguments]
    return subprocess.run(command, capture_output=True, text=True, cwd=cwd, check=False)


def run_here(module: str, arguments: list[str]) -> subprocess.CompletedProcess:
    out, err, code = io.StringIO(), io.StringIO(), 0
    sweep = os.environ.get(SWEEP)  # a sweep names itself to its workers
    argv, hooks = sys.argv, (sys.stdout, sys.stderr)
    sys.argv, (sys.stdout, sys.stderr) = [module, *arguments], (out, err)
    try:
        importlib.import_module(module).main()
    except SystemExit as end:
        code = end.code
    except Exception:
        traceback.print_exc(file=err)
        code = 1
    finally:
        sys.argv, (sys.stdout, sys.stderr) = argv, hooks
        os.environ.pop(SWEEP, None)
        os.environ.update({} if sweep is None else {SWEEP: sweep})
        GlobalHydra.instance().clear()
    return subprocess.CompletedProcess(arguments, code, out.getvalue(), err.getvalue())


def metrics_of(folder: Path) -> dict:
    return json.loads((folder / "metrics.json").read_text())


def weights_of(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "manipulated.safetensors")


def without_times(metrics: dict) -> dict:
    return {key: value for key, value in metrics.items() if key != "train_seconds"}
