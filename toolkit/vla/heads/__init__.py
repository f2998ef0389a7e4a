"""Heads: tasks on aligned vectors, such as retrieval, moment localization and question
answering.
"""

from vla.registry import Registry

registry = Registry("vla.heads", "Head")
