"""What every room stands on: configs, records, identity, the artifact store, progress, errors."""
