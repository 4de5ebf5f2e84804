"""MultiarmedBandit: both references are bounds, so no script attains them."""

VARIANTS = {"rlstm/MultiarmedBanditEasy-v0": [{"num_arms": 2, "max_steps": 9}]}
