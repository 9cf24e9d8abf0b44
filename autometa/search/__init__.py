"""The search: spaces to Optuna, trials on Ray Tune, finalists, the study folder."""
