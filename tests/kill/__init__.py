"""Processes killed at numbered steps, and each guard switched off."""
