"""What an import does to the process: nothing but importing."""

import json
import os
import subprocess
import sys

CHECK = """
import importlib, json, logging, os, pkgutil, sys, warnings

import matplotlib, torch, torchvision, pytorch_lightning, torchmetrics, hydra, pyarrow, plotly.offline, sklearn.datasets, scipy.stats
import rich.console, jinja2, safetensors.torch, filelock, PIL.Image, jaxtyping, matplotlib.pyplot

import advfool

def state():
    root = logging.getLogger()
    return {
        "matplotlib's backend": matplotlib.get_backend(),
        "matplotlib's settings": str({key: value for key, value in matplotlib.rcParams.items() if key != "backend"}),
        "environment": dict(os.environ),
        "logging": [root.level, [repr(handler) for handler in root.handlers], logging.root.manager.disable],
        "loggers of libraries": [
            [logger.level, logger.propagate, [repr(handler) for handler in logger.handlers]]
            for logger in map(logging.getLogger, ("pytorch_lightning", "hydra", "matplotlib", "torch"))
        ],
        "filters of warnings": [repr(shown) for shown in warnings.filters],
        "threads": [torch.get_num_threads(), torch.get_num_interop_threads()],
        "random state": torch.get_rng_state().sum().item(),
        "precision": [str(torch.get_default_dtype()), torch.get_float32_matmul_precision()],
        "determinism": [torch.are_deterministic_algorithms_enabled(), torch.backends.cudnn.benchmark],
        "gradients": torch.is_grad_enabled(),
        "folder": os.getcwd(),
        "arguments": sys.argv,
        "hooks": [repr(sys.excepthook), repr(sys.displayhook), repr(warnings.showwarning)],
    }

found = {}
for module in pkgutil.walk_packages(advfool.__path__, "advfool."):
    before = state()
    try:
        importlib.import_module(module.name)
    except Exception as error:
        found[module.name] = [repr(error)]
        continue
    after = state()
    changed = [f"{key}: {before[key]} -> {after[key]}" for key in before if before[key] != after[key]]
    found[module.name] = changed
print(json.dumps(found))
"""


def test_importing_any_module_changes_nothing_of_the_process():
    """In one process, which knows all the libraries already: what they change themselves is theirs to answer for."""
    unusual = os.environ | {"MPLBACKEND": "svg", "OMP_NUM_THREADS": "3"}  # so that a change shows
    done = subprocess.run([sys.executable, "-c", CHECK], env=unusual, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert len(found) > 50
    problems = "\n".join(f"{name}: {', '.join(changed)}" for name, changed in found.items() if changed)
    assert not problems, problems


def test_importing_advfool_loads_neither_torch_nor_matplotlib():
    code = "import sys, advfool; print([name for name in ('torch', 'matplotlib', 'hydra') if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
