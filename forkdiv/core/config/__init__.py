"""Settings: one frozen config per stage, read from YAML and `key=value` overrides."""
