"""The query strategies by family; importing a module registers its strategies.

Each function names what it needs, its substitute where a need is not met, its cost and its source.
"""
