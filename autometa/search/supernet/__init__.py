"""Weight sharing: one meta-trained dictionary of tensors, of which every network has slices."""
