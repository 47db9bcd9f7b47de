"""The MLflow tracking API, served from the ledger, so that code which says `import mlflow` logs into it unchanged."""
