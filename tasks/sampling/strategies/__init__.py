"""The query strategies by family; importing a module registers its strategies.

The decorator of each function states its needs, its substitute if a need is not met, its cost and its source.
"""
