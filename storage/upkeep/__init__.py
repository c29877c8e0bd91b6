"""Looking after a lake: backup and restore, moving to another place, maintenance, upgrades, checks for damage.

Each module is one command. All of them finish or change nothing; the lake stays readable meanwhile.
"""
