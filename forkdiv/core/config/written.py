"""The settings of a command as they were written, to be read again in another process."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Written:
    """The config, by its name or path, and the settings key=value."""

    config: Path | None
    overrides: tuple[str, ...]

    @property
    def arguments(self) -> list[str]:
        """The same on another command line."""
        return [*(["--config", str(self.config)] if self.config else []), *self.overrides]
