"""Settings for training with a teacher."""

from __future__ import annotations

from rlstm.training.presets.preset import Preset, preset, task

TAUGHT: dict[str, Preset] = {
    "digit-strips": preset(
        "teacher",
        "Read strips of handwritten digits, by CTC and a bidirectional LSTM; unseen ones: evaluate with split=test.",
        task("rlstm/DigitStrips-v0", 5_000_000, distortion=0.15),
        bidirectional=True,
        hidden_size=100,
        batch_size=32,
        learning_rate=5e-3,
        anneal_lr=True,
        max_grad_norm=5.0,
        eval_every=1_000_000,
    ),
}
