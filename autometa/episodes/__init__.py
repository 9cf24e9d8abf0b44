"""Families of few-shot tasks: data sets (one file each) and the samplers of their episodes."""
