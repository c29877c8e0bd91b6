"""pal.toml: every setting (`settings.py`), how it is read (`load.py`), written (`template.py`) and changed
(`label_lines.py`).
"""
