"""Putting an image and its page into a process, in the place of the kernel's vDSO."""
