"""What the scripts of the files client_*.py share, and how they are run."""

from __future__ import annotations

import json
import traceback
import uuid
import warnings
from collections.abc import Callable, Iterable
from typing import Any

import mlflow
from mlflow.exceptions import MlflowException

THREE = int(mlflow.__version__.split(".")[0]) >= 3


def check(found: Any, wanted: Any) -> None:
    assert found == wanted, f"{found!r} instead of {wanted!r}"


def refused(code: str, action: Callable[[], Any]) -> str:
    """The words of the error that `action` must end in."""
    try:
        action()
    except MlflowException as error:
        check(error.error_code, code)
        return str(error)
    raise AssertionError(f"no {code}")


def run_scripts(scripts: Iterable[Callable[[], None]]) -> None:
    """Run each in an experiment of its own, and print what came of it."""
    warnings.simplefilter("ignore")
    for script in scripts:
        error = None
        try:
            mlflow.set_experiment(f"clients {uuid.uuid4().hex}")
            script()
        except Exception:  # whatever a script ends in is its result
            error = traceback.format_exc()
        finally:
            while mlflow.active_run():
                mlflow.end_run()
        print(json.dumps({"script": script.__name__, "error": error}), flush=True)
