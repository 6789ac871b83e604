"""MLflow tracking: one parent run per study, one child run per trial.

What happens is first written to files of events beside the study (`outbox`). One sender reads them
and writes to MLflow (`sender`), which may be down, slow, restarted or moved meanwhile. Only
`server` imports mlflow.
"""
