"""autometa finds the best meta-learner for a family of few-shot tasks."""

__version__ = "0.1.0"
