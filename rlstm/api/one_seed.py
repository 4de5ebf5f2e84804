"""One seed of several, in a process of its own: ``python -m rlstm.api.one_seed TASK``.

TASK is a JSON object: ``folder``, that of the seeds; ``seed``; ``resume``, whether the run goes on; ``total_steps`` and
``num_threads``, where they change, or null; ``env_import``, modules to import first; ``trust``, whether what the stored
files name may be imported too. On stdout there is one JSON object: how the run ended, or ``error``. An env prints to
stderr. Exit codes are those of the command line.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rlstm.training.config import ExperimentConfig

FAILED, INTERRUPTED = 1, 130
_LONGEST = 20_000  # Characters of an error: all is in the pipe at once.


def main(task: dict[str, Any]) -> int:
    """Train the seed and say how it went; return the exit code."""
    signal.signal(signal.SIGTERM, _interrupt)
    signal.signal(signal.SIGINT, _interrupt)
    answer = os.dup(1)
    os.dup2(2, 1)
    threading.Thread(target=_stop_without_parent, daemon=True).start()
    try:
        code, found = _train(task)
    except KeyboardInterrupt:
        code, found = INTERRUPTED, {}
    except Exception as error:
        told = " ".join([str(error), *getattr(error, "__notes__", ())])
        expected = type(error).__module__.startswith("rlstm.")
        found = {"error": (told if expected else f"{type(error).__name__}: {told}")[:_LONGEST]}
        os.write(answer, json.dumps(found).encode())
        if expected:
            sys.stderr.write(f"error: {told}\n")
            return FAILED
        raise
    os.write(answer, json.dumps(found).encode())
    return code


def _interrupt(signum: int, frame: FrameType | None) -> None:
    """Stop before the loop of training takes the signals, and with it the care for a checkpoint."""
    raise KeyboardInterrupt


def _stop_without_parent(read: Callable[[int, int], bytes] = os.read) -> None:
    """Wait for the end of stdin, which comes when the parent has gone, and stop in good order."""
    while read(0, 1):
        pass
    os.kill(os.getpid(), signal.SIGTERM)


def _train(task: dict[str, Any]) -> tuple[int, dict[str, Any]]:
    from rlstm.api.experiments import resume, train_config
    from rlstm.api.stored_configs import read_stored, with_run
    from rlstm.core.files import json_ready
    from rlstm.training.seeds_folder import SeedsFolder
    from rlstm.vector.specs import import_modules

    import_modules(task["env_import"])

    folder, seed = SeedsFolder.open(task["folder"]), task["seed"]
    path, command = folder.seed_path(seed), folder.command_of(seed)
    if task["resume"]:
        steps, threads = task["total_steps"], task["num_threads"]
        words = ["rlstm", "resume", str(path), *([] if steps is None else ["--total-steps", str(steps)])]
        result = resume(path, total_steps=steps, num_threads=threads, ui="plain", command=words, trust=task["trust"])
    else:
        changed = {name: task[name] for name in ("total_steps", "num_threads") if task[name] is not None}
        config = with_run(read_stored(folder.config), seed=seed, run_dir=str(path), **changed)
        if not task["trust"]:
            _check(config, folder.path)
        result = train_config(config, ui="plain", command=command)
    stopped = result.interrupted and not result.complete
    return INTERRUPTED if stopped else 0, json_ready(vars(result))


def _check(config: ExperimentConfig[Any], path: Path) -> None:
    """Refuse a stored experiment that names code which was not imported."""
    from rlstm.api.envs import resolve_env
    from rlstm.api.trust import check_arguments, check_modules, check_stages

    check_modules(config.env, path, trust=False)
    spec = resolve_env(config.env)
    check_arguments(config.env.env_kwargs, spec, path)
    if config.run.curriculum is not None:
        check_stages(Path(config.run.curriculum), config.env, spec)


if __name__ == "__main__":
    sys.exit(main(json.loads(sys.argv[1])))
