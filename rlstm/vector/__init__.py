"""Vector envs: whatever Gymnasium offers, made from an id and returned as one ``EnvStep``."""
