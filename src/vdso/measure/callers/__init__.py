"""Whose code an address is in, and who called it: from registers, a piece of stack and the files that are
mapped.

Finds frames and their names and knows nothing of clocks: which of the frames are worth showing is
vdso.measure.sites' to say. x86-64.
"""
