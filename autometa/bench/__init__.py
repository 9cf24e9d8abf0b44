"""Measurements that stand behind figures: every learner under one budget."""
