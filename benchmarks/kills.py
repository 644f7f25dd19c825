"""Kill a small run at random moments, resume it, and compare its weights with those of an uninterrupted run.

    python benchmarks/kills.py                 # 10 moments
    python benchmarks/kills.py --count 30 --seed 1 fooling=active fooling.train=40 fooling.test=8

The signals take turns: SIGKILL, SIGTERM, SIGINT. Every other run is moved to another folder before it is resumed. The
last line counts the runs whose weights and results are the same to the last digit, exit codes, and files left behind.
"""

import argparse
import json
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch
from safetensors.torch import load_file

SMALL = ["aopc.images=0", "data.limit_train=192", "data.limit_val=40", "data.limit_test=70", "model.weights=null"]
SMALL += ["trainer.max_steps=120", "trainer.val_check_interval=3", "pictures=2", "evaluate_with=[]", "fool_weight=2"]
SIGNALS = {signal.SIGKILL: (-9,), signal.SIGTERM: (143, -15), signal.SIGINT: (130, -2)}  # before Python is up: negative


def main() -> None:
    """Print a line for each moment, and the counts."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--count", type=int, default=10)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("overrides", nargs="*")
    given = parser.parse_args()
    draw = random.Random(given.seed)
    options = [*SMALL, *given.overrides]
    with tempfile.TemporaryDirectory() as place:
        root = Path(place)
        _finish(root / "whole", options)  # fills the caches
        shutil.rmtree(root / "whole")
        started = time.time()
        _finish(root / "whole", options)
        longest = time.time() - started
        same = 0
        for number in range(given.count):
            moment = longest * draw.choice((draw.uniform(0.1, 0.5), draw.uniform(0.5, 0.98), draw.uniform(0.5, 0.98)))
            kind = list(SIGNALS)[number % len(SIGNALS)]
            same += _kill(root, number, options, moment, kind, moved=number % 2 == 1)
    print(f"{same} of {given.count} are the same as the uninterrupted run, which took {longest:.1f} s")
    sys.exit(same != given.count)


def _kill(root: Path, number: int, options: list[str], moment: float, kind: signal.Signals, moved: bool) -> bool:
    folder = root / f"run{number}"
    process = subprocess.Popen(_command(folder, options), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    time.sleep(moment)
    process.send_signal(kind)
    errors = process.communicate()[1]
    code, at = process.returncode, _where(folder)
    problems = [] if code in (*SIGNALS[kind], 0) else [f"exit code {code}: {errors[-300:]}"]
    if code > 2 and "To resume" not in errors:
        problems.append("no command to resume")
    resumed = folder
    if moved:
        resumed = root / f"moved{number}"
        if folder.exists():
            folder.rename(resumed)
    again = _finish(resumed, options)
    problems += [] if again == 0 else [f"resumed with exit code {again}"]
    problems += _different(root / "whole", resumed)
    problems += [
        f"left {path.name}" for path in resumed.rglob("*") if path.suffix in (".part", ".lock") or path.name == ".lock"
    ]
    words = "the same" if not problems else "; ".join(problems)
    status = json.loads((resumed / "status.json").read_text()) if again == 0 else {}
    words += ", from its checkpoint" if status.get("resume") or "Resuming" in _log(resumed) else ", from its start"
    print(f"{kind.name:8} at {moment:5.1f} s ({at}), {'moved' if moved else 'in place'}: {words}", flush=True)
    return not problems


def _log(folder: Path) -> str:
    path = folder / "train.log"
    return path.read_text() if path.exists() else ""


def _where(folder: Path) -> str:
    if (folder / "metrics.json").exists():
        return "finished"
    if (folder / "manipulated.safetensors").exists():
        return "evaluating"
    return "training" if (folder / "checkpoints").exists() else "starting"


def _finish(folder: Path, options: list[str]) -> int:
    return subprocess.run(_command(folder, options), capture_output=True, check=False).returncode


def _command(folder: Path, options: list[str]) -> list[str]:
    return [sys.executable, "-m", "advfool.train", *options, f"hydra.run.dir={folder}"]


def _different(whole: Path, other: Path) -> list[str]:
    """List what differs between two finished runs."""
    try:
        first, second = (load_file(folder / "manipulated.safetensors") for folder in (whole, other))
        metrics = [json.loads((folder / "metrics.json").read_text()) for folder in (whole, other)]
    except OSError as error:
        return [f"no results: {error}"]
    problems = [name for name in first if not torch.equal(first[name], second[name])]
    problems += [key for key in metrics[0] if key != "train_seconds" and metrics[0][key] != metrics[1].get(key)]
    return [f"differs: {', '.join(problems[:3])}"] if problems else []


if __name__ == "__main__":
    main()
