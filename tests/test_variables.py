"""Which variables a program gets, and which values are never written down."""

from __future__ import annotations

import time

import pytest

from orchestrator.errors import UsageError
from orchestrator.variables import (
    fixed_variables,
    host_variables,
    is_secret,
    tracking_variables,
    user_variables,
    without_secrets,
)


def test_the_host_passes_on_what_is_listed_and_nothing_else() -> None:
    environ = {
        "HOME": "/h",
        "SLURM_JOB_ID": "7",
        "PYTHONPATH": "/x",
        "LD_PRELOAD": "y",
        "R_LIBS_USER": "z",
        "EDITOR": "vi",
    }
    assert host_variables(environ) == {"HOME": "/h", "SLURM_JOB_ID": "7"}


RUN = tracking_variables("http://127.0.0.1:5001", "of-the-run", "0123", "7")


def test_the_tracking_server_of_a_run_is_no_choice_for_the_next_one() -> None:
    assert host_variables({**RUN, "HOME": "/h"}) == {"HOME": "/h"}
    assert host_variables({**RUN, "MLFLOW_EXPERIMENT_ID": "8"}) == {}  # as mlflow.set_experiment leaves it


def test_nothing_of_the_run_goes_to_a_server_of_the_users_own() -> None:
    theirs = {"MLFLOW_TRACKING_URI": "https://mlflow.example.org"}
    assert host_variables(RUN | theirs) == theirs
    theirs |= {"MLFLOW_TRACKING_TOKEN": "theirs", "MLFLOW_EXPERIMENT_ID": "3"}
    assert host_variables(RUN | theirs) == theirs
    assert host_variables({**theirs, "HOME": "/h"}) == {**theirs, "HOME": "/h"}


def test_fixed_variables_close_the_user_site_and_set_the_build_date() -> None:
    fixed = fixed_variables(1_700_000_000)
    assert fixed["PYTHONNOUSERSITE"] == "1"
    assert fixed["SOURCE_DATE_EPOCH"] == "1700000000"
    assert fixed["PYTHONHASHSEED"] == "0"


def test_the_users_own_are_given_or_passed_on() -> None:
    assert user_variables(["A=1=2", "B"], {"B": "mine"}) == {"A": "1=2", "B": "mine"}
    with pytest.raises(UsageError, match="NOT_SET"):
        user_variables(["NOT_SET"], {})
    with pytest.raises(UsageError, match="no proper name"):
        user_variables(["=x"], {})


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("OPENAI_API_KEY", "x"),
        ("DB_PASS", "x"),
        ("SLACK_WEBHOOK", "https://example.org/x"),
        ("AWS_SECRET_ACCESS_KEY", "x"),
        ("GITHUB_TOKEN", "x"),
        ("hfToken", "x"),
        ("database", "postgres://ada:pw@host/db"),
        ("PGPASSWORD", "x"),
        ("SSHPASS", "x"),
        ("GITHUB_PAT", "x"),
        ("SECRETKEY", "x"),
        ("apitoken", "x"),
        ("TOKEN1", "x"),
        ("db_password", "x"),
        ("data", "https://bucket.example.org/x?X-Amz-Date=1&X-Amz-Signature=abc"),
        ("note", "ghp_0123456789abcdefghijABCDEFGHIJ"),
        ("data", "see AKIAIOSFODNN7EXAMPLE"),
        ("jwt", "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0In0.abc-DEF"),
        ("note", "a.b, x-jwt_eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0In0.abc-DEF, c"),
        ("note", "eyJ." * 3 + "eyJeyJeyJeyJ.eyJzdWIiOiIxMjM0In0.a"),
    ],
)
def test_secrets_are_known_by_name_or_shape(name: str, value: str) -> None:
    assert is_secret(name, value)
    assert value not in without_secrets({name: value}).values()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("alpha", "5.1"),
        ("tokenizer", "bert"),
        ("max_tokens", "4096"),
        ("monkey", "x"),
        ("keyword", "k"),
        ("sort_key", "name"),
        ("primary_key", "id"),
        ("foreign-key", "id"),
        ("sample_pass", "2"),
        ("auth_method", "ssh"),
        ("compass", "n"),
        ("region", "ASIA_PACIFIC_SOUTH"),
        ("model", "task-classification-v1"),
        ("model", "risk-assessment-model-of-2024"),
        ("url", "http://localhost:8080/a@b"),
    ],
)
def test_ordinary_parameters_are_no_secrets(name: str, value: str) -> None:
    assert not is_secret(name, value)


LONG = {
    "eyJ": "eyJ",
    "eyJ with points": "eyJ.",
    "eyJ with long parts": "eyJaaaaaaaa.eyJ",
    "parts of eight": "aaaaaaaa.",
    "letters": "A",
    "almost a token": "hf_aaaaaaaaaaaaa.",
    "dashes": "sk-proj-",
    "key begins": "-----BEGIN ",
    "key goes on": "PRIVATE KEY",
    "URLs": "://",
    "URLs with users": "://a:b",
    "queries": "?sig&token",
    "names of tokens": "_token1",
    "digits": "1",
    "camels": "aB",
}


@pytest.mark.parametrize("piece", LONG.values(), ids=LONG)
@pytest.mark.parametrize("begin", ["", "eyJ", "-----BEGIN ", "a://", "x_token", "://:", "?"])
def test_long_texts_take_time_by_their_length_and_no_more(begin: str, piece: str) -> None:
    def seconds(length: int) -> float:
        text = begin + piece * (length // len(piece)) + "!"
        taken = []
        for _ in range(3):
            before = time.perf_counter()
            is_secret(text, text)
            without_secrets({text: f"{text}://"})
            taken.append(time.perf_counter() - before)
        return min(taken)

    assert seconds(32_000) < 8 * seconds(8_000) + 0.01  # 16 times and more, where it grows with the square


def test_the_password_in_a_url_is_left_out() -> None:
    proxies = {
        "HTTPS_PROXY": "http://ada:pw@proxy:80/",
        "http_proxy": "ada:pw@proxy:3128",
        "ALL_PROXY": "http://a:p@ss/w@p",
    }
    assert without_secrets(proxies) == {
        "HTTPS_PROXY": "http://proxy:80/",
        "http_proxy": "proxy:3128",
        "ALL_PROXY": "http://p",
    }
