"""How a database of an older hub becomes one of this: a step for each change, applied at a start by `database.py`."""
