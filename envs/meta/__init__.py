"""Learning to learn: bandits and random decision processes whose task is drawn anew each trial."""
