"""Inside a run of orch, `mlflow.projects.run(".", "step")` starts a child run of orch, and the server of the run hears
which experiment the program has set.

MLflow's own local backend would make an environment with conda or virtualenv, which nobody has locked. This folder is
the import path of the run's program; MLflow loads the module as one of its plugins, and no other program does. It knows
nothing of the orchestrator package, for it runs in the project's environment, with any Python since 3.8.
"""

import atexit
import importlib.abc
import importlib.util
import json
import os
import subprocess
import sys
import time

_LOADER = "mlflow.projects.backend.loader"
_RUN_ID = "_mlflow_local_backend_run_id"
_EXPERIMENT_ID = "MLFLOW_EXPERIMENT_ID"


class Provider:
    """What MLflow loads, and asks for tags: it has none."""

    def in_context(self):
        return False

    def tags(self):
        return {}


class HeaderProvider:
    """Tells the server of the run which experiment the program has set: asking for one is how MLflow sets it too."""

    def in_context(self):
        return os.environ.get("MLFLOW_TRACKING_URI") == os.environ.get("ORCH_MLFLOW_TRACKING_URI")

    def request_headers(self):
        fluent = sys.modules.get("mlflow.tracking.fluent")
        chosen = getattr(fluent, "_active_experiment_id", None)
        if chosen is None and os.environ.get(_EXPERIMENT_ID) != os.environ.get(f"ORCH_{_EXPERIMENT_ID}"):
            chosen = os.environ.get(_EXPERIMENT_ID)  # set by the process that started this one
        return {"X-Orch-Experiment": str(chosen or "")}


class _Finder(importlib.abc.MetaPathFinder):
    """Waits for MLflow's table of backends to be imported."""

    def find_spec(self, name, path, target=None):
        if name != _LOADER:
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(name)
        execute = spec.loader.exec_module

        def exec_module(module):
            execute(module)
            _take_over(module)

        spec.loader.exec_module = exec_module
        return spec


def _take_over(loader):
    loader.MLFLOW_BACKENDS["local"] = Backend


class Backend:
    """Takes the place of MLflow's local backend."""

    def run(self, project_uri, entry_point, params, version, backend_config, tracking_uri, experiment_id):
        config = backend_config or {}
        if config.get("DOCKER_ARGS") or config.get("build_image"):
            raise _failed("docker_args and build_image belong to docker projects, which orch does not run")
        command = [os.environ["ORCH_EXE"], "run", "--detach", "--json", "--quiet", "-e", entry_point]
        for name, value in (params or {}).items():
            command += ["-P", f"{name}={value}"]
        if version:
            command += ["--version", version]
        if experiment_id is not None:
            command += ["--experiment-id", str(experiment_id)]
        if config.get("STORAGE_DIR"):
            command += ["--storage-dir", config["STORAGE_DIR"]]
        started = subprocess.run([*command, "--", project_uri], stdout=subprocess.PIPE)
        if started.returncode:
            raise _failed(f"orch could not run {entry_point} of {project_uri}; what was wrong stands above")
        run_id = json.loads(started.stdout.decode())["run_id"]
        if config.get(_RUN_ID):
            sys.stderr.write(f"orch: run {config[_RUN_ID]} is not continued: this step is run {run_id}.\n")
        return _submitted(run_id)


def _failed(text):
    from mlflow.exceptions import ExecutionException

    return ExecutionException(text)


def _submitted(run_id):
    from mlflow.entities import RunStatus
    from mlflow.projects.submitted_run import SubmittedRun

    shown = subprocess.Popen([os.environ["ORCH_EXE"], "attach", "--quiet", run_id], stdin=subprocess.DEVNULL)
    _wait_until_begun(run_id, shown)
    atexit.register(shown.wait)  # as MLflow has it: a program ends after the steps that it did not wait for

    class ChildRun(SubmittedRun):
        """A child run of orch; who shows its output ends with its exit code."""

        @property
        def run_id(self):
            return run_id

        def wait(self):
            return shown.wait() == 0

        def get_status(self):
            code = shown.poll()
            if code is None:
                return RunStatus.to_string(RunStatus.RUNNING)
            return RunStatus.to_string(RunStatus.FINISHED if code == 0 else RunStatus.FAILED)

        def cancel(self):
            subprocess.call([os.environ["ORCH_EXE"], "stop", "--quiet", run_id])
            self.wait()

    return ChildRun()


def _wait_until_begun(run_id, shown):
    """Until its environment is there, and its program runs, a run is not known to the tracking server."""
    from mlflow.exceptions import MlflowException
    from mlflow.tracking import MlflowClient

    client = MlflowClient()
    while True:
        ended = shown.poll()
        try:
            client.get_run(run_id)
            return
        except MlflowException:
            if ended is not None:
                raise _failed(f"run {run_id} did not begin; what was wrong stands above") from None
            time.sleep(0.1)


if _LOADER in sys.modules:
    _take_over(sys.modules[_LOADER])
else:
    sys.meta_path.insert(0, _Finder())
