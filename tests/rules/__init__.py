"""Rules as data: back-tests, and the commands that change a rule."""
