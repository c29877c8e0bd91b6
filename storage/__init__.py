"""What the project remembers: the lake, the files around it, and the record of runs.

Nothing here knows about annotators, models or flows, and it imports no other package of the project.

- `workspace.py`: one project's directory and the paths in it. Start here.
- `records.py`: the small frozen records that every package passes around.
- `errors.py`: every error a user can meet: what happened and what to type.
- `run_records.py`: what ran, when, how long and how it ended (`runs.sqlite`).
- `lake/`: tables and queries. `readers/`: files of texts. `files/`: atomic folders and object storage. `upkeep/`:
  backup, restore, move, maintenance, upgrade.
"""
