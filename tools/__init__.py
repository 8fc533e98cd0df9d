"""What the Makefile calls: page assets, system packages, generated documents. Not part of the wheel."""
