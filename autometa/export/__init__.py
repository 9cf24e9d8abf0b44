"""Taking a winner elsewhere: the bundle, and its configuration alone."""
