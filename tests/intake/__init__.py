"""Tests of intake, rights and the device chains."""
