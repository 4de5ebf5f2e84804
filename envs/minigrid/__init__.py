"""MiniGrid's tasks of memory, with the rules, pictures and rewards of minigrid 3; a test plays both side by side.

Source: M. Chevalier-Boisvert et al., "Minigrid & Miniworld: Modular & Customizable Reinforcement Learning Environments
for Goal-Oriented Tasks", NeurIPS 2023.
"""
