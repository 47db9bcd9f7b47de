"""What training programs do with MLflow, one function each. Run by a Python that has MLflow 2 or 3:

    python clients.py SCRIPT...

with `MLFLOW_TRACKING_URI` set. Prints a line of JSON for each: `{"script": ..., "error": ...}`, where the error is null
or a traceback. Each does what a user would, and checks with the same client that the server has it.
"""

from __future__ import annotations

import sys

import client_everyday
import client_logging
import client_models
import client_registry
from client_script import run_scripts

if __name__ == "__main__":
    known = {**vars(client_logging), **vars(client_models), **vars(client_everyday), **vars(client_registry)}
    run_scripts(known[name] for name in sys.argv[1:])
