"""The kernel's own vDSO, only read: where it is, what it holds, what its data page says."""
