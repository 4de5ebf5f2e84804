"""Train on two machines, lose one, go on: two network namespaces of this host stand for the machines.

    python -m scripts.two_machines [ppo reinforce evolino]

Needs root and ``ip`` (Linux), since namespaces do. Each machine has an address and a folder of its own, and runs
``torchrun --nnodes 2``; the run's folder is on the first. For each agent a run is trained undisturbed; then the same
run again, in which all processes of the second machine are killed on the way, and which both then resume. It says
whether the weights are the same to the last bit.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from scripts.results_table import ROOT

MACHINES = ("rlstm-a", "rlstm-b")
ADDRESSES = ("10.77.0.1", "10.77.0.2")
PORT = 29511
TINY = "--hidden-size 8 --encoder-sizes 8 --eval-episodes 3 --num-threads 1 --ui none --seed 3"
AGENTS = {
    "ppo": f"ppo --env rlstm/TMaze-v0 --num-envs 8 --num-steps 32 --total-steps 30000 {TINY}",
    "reinforce": f"reinforce --env rlstm/TMaze-v0 --num-envs 8 --num-episodes 16 --total-steps 30000 {TINY}",
    "evolino": f"evolino --env rlstm/SinglePoleNoVel-v0 --readout joint --num-envs 2 --total-steps 60000 {TINY}",
}


def run(*words: str) -> None:
    """Run a command, and show what it says if it fails."""
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{' '.join(words)} failed: {done.stderr}")


@contextlib.contextmanager
def two_machines() -> Iterator[None]:
    """Make two network namespaces with a cable between them."""
    try:
        for machine in MACHINES:
            run("ip", "netns", "add", machine)
        run("ip", "link", "add", "rlstm0", "netns", MACHINES[0], "type", "veth", "peer", "rlstm1", "netns", MACHINES[1])
        for index, (machine, address) in enumerate(zip(MACHINES, ADDRESSES, strict=True)):
            run("ip", "-n", machine, "addr", "add", f"{address}/24", "dev", f"rlstm{index}")
            for device in (f"rlstm{index}", "lo"):
                run("ip", "-n", machine, "link", "set", device, "up")
        yield
    finally:
        for machine in MACHINES:
            subprocess.run(["ip", "netns", "del", machine], capture_output=True, check=False)


def start(index: int, words: Sequence[str], folder: Path) -> subprocess.Popen[str]:
    """Start a command of rlstm on a machine, one rank there."""
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--nnodes", "2", "--nproc-per-node", "1"]
    place = ["--node-rank", str(index), "--master-addr", ADDRESSES[0], "--master-port", str(PORT)]
    variables = {"GLOO_SOCKET_IFNAME": f"rlstm{index}", "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    folder.mkdir(exist_ok=True)
    return subprocess.Popen(
        ["ip", "netns", "exec", MACHINES[index], *torchrun, *place, "-m", "rlstm", *words],
        cwd=folder,
        env=os.environ | variables,
        stdout=subprocess.DEVNULL,
        stderr=(folder / "stderr.txt").open("w"),
        text=True,
    )


def start_both(words: Sequence[str], folder: Path) -> list[subprocess.Popen[str]]:
    """Start a command on both machines."""
    return [start(index, words, folder / machine) for index, machine in enumerate(MACHINES)]


def finish(words: Sequence[str], folder: Path) -> None:
    """Run a command on both machines to its end."""
    if any(process.wait(timeout=600) for process in start_both(words, folder)):
        raise SystemExit("\n".join((folder / machine / "stderr.txt").read_text() for machine in MACHINES))


def lose_the_second(words: Sequence[str], folder: Path, run_dir: Path) -> list[int]:
    """Run a command on both machines and kill the second on the way; returns the exit codes."""
    processes = start_both(words, folder)
    while not len(list(run_dir.glob("checkpoints/step_*/meta.json"))) > 2:
        if processes[0].poll() is not None:
            raise SystemExit((folder / MACHINES[0] / "stderr.txt").read_text())
        time.sleep(0.02)
    listed = subprocess.run(["ip", "netns", "pids", MACHINES[1]], capture_output=True, text=True, check=True)
    for pid in map(int, listed.stdout.split()):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    return [process.wait(timeout=600) for process in processes]


def try_agent(agent: str, folder: Path) -> bool:
    """Train a run undisturbed and one with a loss; return whether both end with the same weights."""
    words = AGENTS[agent].split()
    runs = {name: folder / MACHINES[0] / f"{agent}-{name}" for name in ("whole", "lost")}
    finish(["train", *words, "--run-dir", str(runs["whole"])], folder)
    codes = lose_the_second(["train", *words, "--run-dir", str(runs["lost"])], folder, runs["lost"])
    if codes[0] == 0:
        raise SystemExit(f"{agent}: the first machine ended well though the second was lost: {codes}")
    finish(["resume", str(runs["lost"]), "--ui", "none"], folder)
    whole, lost = ((run_dir / "checkpoints/latest").read_text().strip() for run_dir in runs.values())
    weights = [
        (run_dir / "checkpoints" / step / "model.safetensors").read_bytes()
        for run_dir, step in zip(runs.values(), (whole, lost), strict=True)
    ]
    equal = whole == lost and weights[0] == weights[1]
    print(f"{agent:10s} exit codes after the loss {codes}, resumed to {lost}: {'equal' if equal else 'NOT EQUAL'}")
    return equal


def main() -> None:
    """Try the agents."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("agents", nargs="*", choices=[[], *AGENTS], default=list(AGENTS))
    agents = parser.parse_args().agents
    if os.geteuid() != 0:
        raise SystemExit("Network namespaces need root: run this as root, in a container for instance.")
    with two_machines(), tempfile.TemporaryDirectory() as folder:
        results = [try_agent(agent, Path(folder)) for agent in agents]
    sys.exit(0 if all(results) else 1)


if __name__ == "__main__":
    main()
