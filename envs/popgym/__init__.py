"""POPGym's tasks, with the rules, rewards and lengths of popgym 1.0.7; a test plays both side by side.

Source: S. Morad, R. Kortvelesy, M. Bettini, S. Liwicki, A. Prorok, "POPGym: Benchmarking Partially Observable
Reinforcement Learning", ICLR 2023.
"""
