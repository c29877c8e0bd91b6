"""Looking after a lake: backup and restore, moving to another place, maintenance, upgrades, checks for damage.

Each module is one command. A command either finishes or changes nothing, and the lake stays readable meanwhile.
"""
