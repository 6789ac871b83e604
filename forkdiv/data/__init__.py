"""SFT examples of a task, and their token rows."""
