"""``autometa doctor``: whether this machine can run a search, and what to do where it can't."""
