"""The variables of the process, in three classes: fixed (in the spec), of the host (passed on), and the user's."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from orchestrator.errors import UsageError

SYSTEM_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
"""PATH behind the environment's own: what a person has added to theirs decides nothing."""

_FIXED = {
    "LANG": "C.UTF-8",
    "LC_ALL": "C.UTF-8",
    "PYTHONDONTWRITEBYTECODE": "1",
    "PYTHONHASHSEED": "0",
    "PYTHONNOUSERSITE": "1",
    "PYTHONUNBUFFERED": "1",
    "R_ENVIRON_USER": "",
    "R_LIBS_USER": "",
    "R_PROFILE_USER": "",
    "TZ": "UTC",
}

HOST = (
    "HOME USER LOGNAME SHELL TERM COLORTERM NO_COLOR TMPDIR XDG_RUNTIME_DIR "
    "HTTP_PROXY HTTPS_PROXY FTP_PROXY ALL_PROXY NO_PROXY http_proxy https_proxy ftp_proxy all_proxy no_proxy "
    "SSL_CERT_FILE SSL_CERT_DIR REQUESTS_CA_BUNDLE CURL_CA_BUNDLE NODE_EXTRA_CA_CERTS "
    "CUDA_VISIBLE_DEVICES NVIDIA_VISIBLE_DEVICES ROCR_VISIBLE_DEVICES HIP_VISIBLE_DEVICES "
    "OMP_NUM_THREADS OPENBLAS_NUM_THREADS MKL_NUM_THREADS NUMEXPR_NUM_THREADS "
    "SSH_AUTH_SOCK KRB5CCNAME DISPLAY WAYLAND_DISPLAY XAUTHORITY "
    "SLURM_* PBS_* LSB_* SGE_* MLFLOW_*"
).split()
"""Names (`*` at the end: a prefix) of the host's variables that a program gets. They are recorded beside the spec."""

DECIDING = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "CUDA_VISIBLE_DEVICES")
"""Those of them that a result may depend on."""

_SECRET_NAME = re.compile(
    r"passw(or)?d|passphrase|secret|credential|webhook"
    r"|(^|[_.-])(api|access|auth|bearer|refresh|session|id)?(token|auth)[0-9]*$"
    r"|(api|access|private|secret|signing|encryption|service|account|master|auth)[_.-]?key"
    r"|(ssh|pg|db|database|user|root|admin|smtp|mail)[_.-]?pass$|(^|[_.-])pat$"
    r"|(?-i:_(KEY|PASS|PWD)$)",
    re.IGNORECASE,
)
_CAMEL = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")
_SECRET_SHAPE = re.compile(
    r"(?<![A-Za-z0-9])((gh[pousr]|github_pat|glpat|hf|npm|pypi|sk_live|xox[abprs])[_-][A-Za-z0-9_-]{16,}"
    r"|sk-((proj|ant|or)-)?[A-Za-z0-9]{20,}|(AKIA|ASIA)[A-Z0-9]{16}(?![A-Za-z0-9])|AIza[A-Za-z0-9_-]{30,})"
    # What looks ahead sees to it that each word is gone through once, however long it is.
    r"|(?<![\w-])(?=[\w-]+\.[\w-]{8,}\.[\w-])[\w-]*?eyJ[\w-]{8,}\.[\w-]+\.[\w-]+"
    r"|-----BEGIN [A-Z ]*PRIVATE KEY-----"
    r"|://[^/@:\s]*:[^@/\s]+@"
    r"|[?&](X-Amz-Signature|X-Goog-Signature|sig|signature|token|access_token|api_?key)=",
)
_USERINFO = re.compile(r"^([a-z][a-z0-9+.-]*://)?\S*@", re.IGNORECASE)
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


def fixed_variables(commit_time: int) -> dict[str, str]:
    """What every run gets, so that the host's own settings change nothing. `commit_time` in seconds since the epoch."""
    return {**_FIXED, "SOURCE_DATE_EPOCH": str(max(commit_time, 0))}


TRACKING_URI = "MLFLOW_TRACKING_URI"
_OF_A_RUN = (TRACKING_URI, "MLFLOW_TRACKING_TOKEN", "MLFLOW_RUN_ID", "MLFLOW_EXPERIMENT_ID")
_COPY = "ORCH_"
"""What stands before the name of the copy of each, by which those that are still the run's are known."""


def tracking_variables(url: str, token: str, run_id: str, experiment_id: str) -> dict[str, str]:
    """The variables by which MLflow's clients find the tracking server of a run, and the run."""
    told = dict(zip(_OF_A_RUN, (url, token, run_id, experiment_id), strict=True))
    return told | {_COPY + name: value for name, value in told.items()}


def host_variables(environ: Mapping[str, str]) -> dict[str, str]:
    """Those of `environ` that are the host's and passed on.

    Inside a run its tracking server is not the user's choice for the next one, and its token is for nobody else.
    """
    own = environ.get(TRACKING_URI, "") == environ.get(_COPY + TRACKING_URI)
    gone = {name for name in _OF_A_RUN if own or environ.get(name) == environ.get(_COPY + name)}
    environ = {name: value for name, value in environ.items() if name not in gone}
    exact = {name for name in HOST if not name.endswith("*")}
    prefixes = tuple(name[:-1] for name in HOST if name.endswith("*"))
    return {name: value for name, value in environ.items() if name in exact or name.startswith(prefixes)}


def user_variables(options: Sequence[str], environ: Mapping[str, str]) -> dict[str, str]:
    """The values of `--env NAME=VALUE`, or `--env NAME` for the caller's own. Raises UsageError."""
    chosen: dict[str, str] = {}
    for option in options:
        name, given, value = option.partition("=")
        if not _NAME.fullmatch(name):
            raise UsageError(f"--env takes NAME or NAME=VALUE; {option!r} has no proper name.")
        if not given and name not in environ:
            raise UsageError(f"--env {name} passes on your own variable, but it is not set.")
        chosen[name] = value if given else environ[name]
    return chosen


def is_secret(name: str, value: str) -> bool:
    """Whether, by name or by shape, the value must not be written anywhere."""
    return bool(value) and bool(_SECRET_NAME.search(_CAMEL.sub("_", name)) or _SECRET_SHAPE.search(value))


def without_secrets(variables: Mapping[str, str]) -> dict[str, str]:
    """For the record: a secret's value is left out, and so is the `user:password@` of a URL or a proxy."""
    public = {
        name: _USERINFO.sub(r"\1", value) if "://" in value or name.lower().endswith("_proxy") else value
        for name, value in sorted(variables.items())
    }
    return {name: "" if is_secret(name, value) else value for name, value in public.items()}
