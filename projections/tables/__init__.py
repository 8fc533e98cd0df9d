"""Hand-declared tables, one folder each: declaration and numbered migrations. Raw tables of families are generated."""
