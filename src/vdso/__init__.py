"""Run programs on a vDSO of your own: `vdso run`.

Importing this costs nothing: whatever is heavier than a name is imported by who asks for it.
"""

__version__ = "0.1.0"
__all__ = ["__version__"]
