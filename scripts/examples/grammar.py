"""Count: learn a^n b^n c^n from short strings, and read longer ones.

    python -m scripts.examples.grammar

After each symbol the set of legal next ones is asked, as in Gers & Schmidhuber (2001). Strings have n up to 10 in
training. The found range is the largest n such that every set is right in the strings of this n and of all smaller
ones: a policy that only knew the training strings by heart would stop at 10, and one without memory at 1.
"""

from __future__ import annotations

import tempfile

import rlstm

ENV, MAX_N, LONGEST = "rlstm/AnBnCn-v0", 10, 200


def found_range(run_dir: str, *, ablate_memory: bool = False) -> int:
    """Return the largest n up to which every string is read right."""
    for n in range(1, LONGEST + 1):
        one = rlstm.evaluate(
            run_dir, episodes=1, env_kwargs={"min_n": n, "max_n": n}, ablate_memory=ablate_memory, deterministic=True
        )
        if one.success_rate != 1.0:
            return n - 1
    return LONGEST


def main() -> None:
    """Train on short strings, and look how far it reaches."""
    with tempfile.TemporaryDirectory() as folder:
        settings = {"cell": "peephole_lstm", "hidden_size": 4, "learning_rate": 0.02, "anneal_lr": True}
        run = {"total_steps": 500_000, "eval_episodes": 0, "num_threads": 1, "ui": "none", "run_dir": f"{folder}/run"}
        run_dir = rlstm.train("teacher", env=ENV, env_kwargs={"max_n": MAX_N}, **settings, **run).run_dir
        with_memory = found_range(run_dir)
        without_memory = found_range(run_dir, ablate_memory=True)
    print("a^n b^n c^n: the largest n up to which every string is read right")
    print(f"  in training: {MAX_N}")
    print(f"  LSTM with peepholes: {with_memory}")
    print(f"  the same without its memory: {without_memory}")


if __name__ == "__main__":
    main()
