"""Looking after a lake: backup and restore, moving to another place, maintenance, upgrades.

Each module is one command. All of them finish or change nothing; the lake stays readable meanwhile.
"""
