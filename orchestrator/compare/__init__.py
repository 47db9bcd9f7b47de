"""Whether a run's outputs, metrics and logged parameters came out again: pure functions over two records and the store.

What is declared (`rules`, `project_rules`), what each run calls itself (`own`), the formats that people write
(`contents` and the modules beside it), and the verdicts (`outputs`, `metrics`, `params`). Nothing is equivalent by
guess: a rule that was declared or is built in has its name in the verdict.
"""

from orchestrator.compare.metrics import MetricVerdict, compare_metrics
from orchestrator.compare.outputs import OutputVerdict, Result, compare_outputs
from orchestrator.compare.params import ParamVerdict, compare_params
from orchestrator.compare.project_rules import project_rules
from orchestrator.compare.rules import (
    MetricRule,
    OutputRule,
    Rules,
    Tolerance,
    joined,
    parse_tolerance,
    parse_tolerances,
    unmatched,
)

__all__ = [
    "MetricRule",
    "MetricVerdict",
    "OutputRule",
    "OutputVerdict",
    "ParamVerdict",
    "Result",
    "Rules",
    "Tolerance",
    "compare_metrics",
    "compare_outputs",
    "compare_params",
    "joined",
    "parse_tolerance",
    "parse_tolerances",
    "project_rules",
    "unmatched",
]
