"""Rows of a user's own files: `file` opens them, `columns` says which column holds what, and
`checked` gives the rows that can be used and the reasons why others cannot."""
