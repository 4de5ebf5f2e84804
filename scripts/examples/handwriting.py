"""Read strips of handwritten digits, column by column, without being told where a digit is.

    python -m scripts.examples.handwriting

Only the string of a strip's digits is known, as in Graves et al. (2006): the loss is that of connectionist temporal
classification. Strips of digits that were never learnt from are read. The share of wrong labels is the edit distance by
the number of digits, and 1 for who answers nothing. The control has no memory: it sees a column at a time.
"""

from __future__ import annotations

import tempfile

import rlstm

ENV, STRIPS = "rlstm/DigitStrips-v0", 500
LSTM = {"bidirectional": True, "hidden_size": 64, "batch_size": 32, "learning_rate": 0.01, "max_grad_norm": 5.0}
READERS = {"bidirectional LSTM": LSTM, "without memory": {"cell": "none", "batch_size": 32, "learning_rate": 0.01}}


def main() -> None:
    print(f"{STRIPS} unseen strips of 3 to 8 digits: share of wrong labels, share of strips read without a mistake")
    for name, settings in READERS.items():
        with tempfile.TemporaryDirectory() as folder:
            run = {"eval_episodes": 0, "num_threads": 1, "ui": "none", "run_dir": f"{folder}/run"}
            task = {"env": ENV, "env_kwargs": {"distortion": 0.15}, "loss": "ctc", "total_steps": 2_500_000}
            run_dir = rlstm.train("teacher", **task, **settings, **run, anneal_lr=True).run_dir
            read = rlstm.evaluate(run_dir, episodes=STRIPS, env_kwargs={"split": "test", "distortion": 0.0})
        print(f"  {name}: {read.label_error_rate:.3f}, {read.success_rate:.3f}", flush=True)


if __name__ == "__main__":
    main()
