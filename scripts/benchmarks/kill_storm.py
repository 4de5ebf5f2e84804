"""Kill runs at random times, resume them until they end, and compare their last weights with those of a run in peace.

    python -m scripts.benchmarks.kill_storm --kills 30 --seed 0
    python -m scripts.benchmarks.kill_storm --kills 100 --cases ppo/async evolino/workers

SIGKILL goes to the main process, to a whole group of processes as when memory is short, or to one worker. Where ranks
share a run the main process is torchrun, which is a group by itself, and they are workers. A run saves
after every update, so that what a dead worker leaves is a checkpoint from which the run goes on exactly. What is
counted of the runs of a case: "kills" by what was killed; "unborn", killed before there was a run; "ended"; "equal" and
"unequal" to the run in peace to the last bit; "inexact", unequal as a resume had said: a worker died just before a
checkpoint, which then has no running episodes; "refused", resumes that ended with an error; "lost", runs that had begun
and could not be brought to their end; "orphans", workers that lived on after their main process. Exit status 1 unless
all that had begun have ended, equal or inexact.
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from scripts.results_table import ROOT

_COMMON = (
    "--env rlstm/TMaze-v0 --env-kwargs corridor_length=3 --hidden-size 8 --num-threads 1 --eval-episodes 4 --ui plain "
    "--checkpoint-every 1"
)
_PPO = "train ppo --num-envs 4 --num-steps 32 --total-steps 5120 --eval-every 1280"
_REINFORCE = "train reinforce --num-envs 4 --num-episodes 8 --total-steps 8000 --eval-every 2000"
_EVOLINO = "train evolino --num-envs 2 --population 20 --total-steps 20000 --eval-every 5000"
CASES = {
    "ppo/native": f"{_PPO} --vectorization native",
    "ppo/sync": f"{_PPO} --vectorization sync",
    "ppo/async": f"{_PPO} --vectorization async",
    "reinforce/sync": f"{_REINFORCE} --vectorization sync",
    "reinforce/async": f"{_REINFORCE} --vectorization async",
    "evolino/sync": f"{_EVOLINO} --vectorization sync",
    "evolino/workers": f"{_EVOLINO} --vectorization sync --workers 2",
    "ppo/2 ranks": f"{_PPO} --vectorization native",
    "ppo/2 ranks async": f"{_PPO} --vectorization async",
    "reinforce/2 ranks": f"{_REINFORCE} --vectorization sync",
    "evolino/2 ranks": f"{_EVOLINO} --vectorization sync",
}
_PACKAGE = ROOT / "rlstm"
_COLUMNS = (
    *("runs", "main", "group", "worker", "unborn"),
    *("ended", "equal", "inexact", "unequal", "refused", "lost", "orphans"),
)
_MOST_TRIES = 60  # Of a run, after which it is lost.
_ORPHAN_SECONDS = 5.0


class Peace(NamedTuple):
    """A run that nobody killed."""

    weights: bytes
    born: float  # Seconds until there was a run.
    seconds: float


class Try(NamedTuple):
    """A command that was started and perhaps killed."""

    code: int
    said: str
    killed: str | None  # What was killed: main, group or worker.
    orphans: int


def command(words: str, num_ranks: int) -> subprocess.Popen[str]:
    """Start ``rlstm`` with these words, in a group of processes of its own."""
    torchrun = ["torch.distributed.run", "--standalone", "--nproc-per-node", str(num_ranks), "-m"]
    started = [sys.executable, "-m", *(torchrun if num_ranks > 1 else []), "rlstm", *words.split()]
    pipes = {"stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE}
    return subprocess.Popen(started, text=True, start_new_session=True, **pipes)  # type: ignore[call-overload, no-any-return]


def descendants(pid: int) -> list[int]:
    """Return the processes that a process has started, those that these have started, and so on."""
    parents: dict[int, list[int]] = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            words = path.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if words[0] != "Z":
            parents.setdefault(int(words[1]), []).append(int(path.parent.name))
    found, waiting = [], [pid]
    while waiting:
        children = parents.get(waiting.pop(), [])
        found += children
        waiting += children
    return found


def living(pids: Sequence[int]) -> list[int]:
    """Return those processes that have not ended."""
    alive = []
    for pid in pids:
        try:
            state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        except OSError:
            continue
        alive += [pid] if state != "Z" else []
    return alive


def attempt(words: str, num_ranks: int, seconds: float | None, chance: random.Random) -> Try:
    """Run a command; after so many seconds something of it is killed."""
    process = command(words, num_ranks)
    killed, children = None, list[int]()
    try:
        process.wait(seconds)
    except subprocess.TimeoutExpired:
        children = descendants(process.pid)
        killed = chance.choice(["main", "group", *(["worker"] if children else [])])
        if killed == "group":
            os.killpg(process.pid, signal.SIGKILL)
        else:
            os.kill(process.pid if killed == "main" else chance.choice(children), signal.SIGKILL)
    said = process.communicate()[1]
    deadline = time.monotonic() + _ORPHAN_SECONDS
    while living(children) and time.monotonic() < deadline:
        time.sleep(0.05)
    orphans = living(children)
    for pid in orphans:
        os.kill(pid, signal.SIGKILL)
    return Try(process.returncode, said, killed, len(orphans))


def weights(folder: Path) -> bytes:
    """Return the weights of the latest checkpoint."""
    name = (folder / "checkpoints" / "latest").read_text().strip()
    return (folder / "checkpoints" / name / "model.safetensors").read_bytes()


def in_peace(words: str, num_ranks: int, folder: Path) -> Peace:
    """Run a case to its end.

    Raises:
        SystemExit: If it fails, with what it said.
    """
    began = time.monotonic()
    process = command(f"{words} --run-dir {folder}", num_ranks)
    while process.poll() is None and not (folder / "config.json").exists():
        time.sleep(0.01)
    born = time.monotonic() - began
    said = process.communicate()[1]
    if process.returncode:
        raise SystemExit(f"{words} failed:\n{said}")
    return Peace(weights(folder), born, time.monotonic() - began)


def storm(words: str, num_ranks: int, folder: Path, peace: Peace, kills: int, chance: random.Random) -> Counter[str]:
    """Begin a run and kill it up to so many times; it is resumed until it ends. Returns what is counted."""
    counts, left, told = Counter[str](runs=1), kills, False
    for _ in range(_MOST_TRIES):
        is_born = (folder / "config.json").exists()
        if not is_born and folder.exists():
            shutil.rmtree(folder)
        # Most of a process is its imports; most kills are to come later.
        earliest = 0.0 if chance.random() < 0.1 else peace.born * 0.8
        seconds = chance.uniform(earliest, peace.seconds) if left > 0 else None
        done = attempt(f"resume {folder}" if is_born else f"{words} --run-dir {folder}", num_ranks, seconds, chance)
        counts["orphans"] += done.orphans
        told |= "state is not in the checkpoint" in done.said
        if done.killed is not None:
            left -= 1
            counts[done.killed] += 1
            counts["unborn"] += not (folder / "config.json").exists()
        if done.code == 0 or (is_born and "nothing is left to do" in done.said):
            counts["ended"] += 1
            counts["equal" if weights(folder) == peace.weights else "inexact" if told else "unequal"] += 1
            return counts
        if str(_PACKAGE) in done.said or done.killed is None:  # A traceback; torchrun has one of its own.
            counts["refused"] += 1
            print(f"{folder.name}, killed: {done.killed}, exit code {done.code}:\n{done.said[-2000:]}", file=sys.stderr)
            if done.killed is None:
                break
    counts["lost"] += 1
    return counts


def table(counts: dict[str, Counter[str]]) -> str:
    """Return what was counted, a line a case and one of all."""
    rows = {**counts, "all": sum(counts.values(), Counter[str]())}
    lines = [f"{'':18}" + "".join(f"{name:>9}" for name in _COLUMNS)]
    lines += [f"{case:18}" + "".join(f"{found[name]:9}" for name in _COLUMNS) for case, found in rows.items()]
    return "\n".join(lines)


def main(argv: Sequence[str] | None = None) -> int:
    """Let it storm."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--kills", type=int, default=30)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--cases", nargs="+", choices=CASES, default=list(CASES))
    parser.add_argument("--most", type=int, default=3, help="kills of one run")
    arguments = parser.parse_args(argv)
    chance = random.Random(arguments.seed)
    counts: dict[str, Counter[str]] = {case: Counter() for case in arguments.cases}
    with tempfile.TemporaryDirectory() as name:
        folder, runs, killed = Path(name), 0, 0
        peace: dict[str, Peace] = {}
        while killed < arguments.kills:
            case = arguments.cases[runs % len(arguments.cases)]
            words, num_ranks = f"{CASES[case]} {_COMMON}", 2 if "2 ranks" in case else 1
            if case not in peace:
                peace[case] = in_peace(words, num_ranks, folder / f"peace-{runs}")
            most = min(chance.randint(1, arguments.most), arguments.kills - killed)
            run_dir = folder / f"{case.replace('/', '-').replace(' ', '-')}-{runs}"
            found = storm(words, num_ranks, run_dir, peace[case], most, chance)
            counts[case] += found
            killed, runs = killed + found["main"] + found["group"] + found["worker"], runs + 1
    print(table(counts))
    return int(any(found["lost"] or found["unequal"] or found["orphans"] for found in counts.values()))


if __name__ == "__main__":
    sys.exit(main())
