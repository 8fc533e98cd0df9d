"""Speed of each stage beside its own limit, measured in the same run: ``python -m bench``. Not part of the platform.

Each module runs alone as well and says in its docstring what its numbers do not prove.
"""
