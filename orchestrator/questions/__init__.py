"""Questions to the ledger, in MLflow's grammar: text to data, data to SQL, and the runs that answer."""
