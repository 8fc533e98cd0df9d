"""Rules as data: the versions that hold where nobody has published one."""
