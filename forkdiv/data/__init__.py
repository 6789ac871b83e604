"""From a task to SFT examples, and from those to token rows."""
