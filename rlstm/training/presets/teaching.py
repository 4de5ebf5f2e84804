"""Settings for training with a teacher."""

from __future__ import annotations

from rlstm.training.presets.preset import Preset, preset, task

_LAG = {  # A memory of 16 units for lags of a thousand steps, which shorter ones prepare.
    "hidden_size": 16,
    "memory_length": 1_000,
    "batch_size": 4,
    "learning_rate": 5e-3,
    "adam_epsilon": 1e-8,
    "eval_every": 1_000_000,
}

TEACHING: dict[str, Preset] = {
    "adding-1000": preset(
        "teacher",
        "Add two numbers of a sequence of 1,000 or more, by a curriculum of 100 and 300.",
        task("rlstm/Adding-v0", 20_000_000, length=1000),
        _LAG,
        curriculum="adding-1000",
    ),
    "long-lag-1000": preset(
        "teacher",
        "Keep a symbol over a thousand distractors or more, by a curriculum of lags of 30, 100 and 300.",
        task("rlstm/LongLag-v0", 20_000_000, form="variable", p=1000, num_distractors=1000),
        _LAG,
        curriculum="long-lag-1000",
    ),
    "anbncn-dekf": preset(
        "teacher",
        "Count: a^n b^n c^n from n up to 10 by a Kalman filter; some seeds then handle n = 1000.",
        task("rlstm/AnBnCn-v0", 90_000, max_n=10),
        dtype="float64",
        eval_every=0,
        cell="peephole_lstm",
        hidden_size=4,
        batch_size=8,
        optimizer="dekf",
        dekf_measurement_noise=10.0,
        dekf_final_measurement_noise=0.01,
        dekf_weight_noise=0.3,  # Without it counters are not exact enough for strings much longer than those seen.
    ),
    "digit-strips": preset(
        "teacher",
        "Read strips of handwritten digits, by CTC and a bidirectional LSTM; unseen ones: evaluate with split=test.",
        task("rlstm/DigitStrips-v0", 20_000_000, distortion=0.15),
        bidirectional=True,
        hidden_size=100,
        batch_size=32,
        learning_rate=5e-3,
        anneal_lr=True,
        max_grad_norm=5.0,
        eval_every=2_000_000,
    ),
}
