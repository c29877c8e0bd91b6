"""pal.toml: every setting, and how it is read, written and changed.

The settings are in `settings.py`, their reading in `load.py`, the template and changes in `template.py`.
"""
