"""What is remembered: the lake, its tables, and the files that texts come from. Imports no other room."""
