"""pal.toml: every setting (`settings.py`), how the file is read (`load.py`) and how it is written (`template.py`)."""
