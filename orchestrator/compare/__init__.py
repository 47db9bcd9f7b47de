"""Whether a run's outputs and metrics came out again: pure functions over two records and the store.

What is declared (`rules`, `project_rules`), what each run calls itself (`own`), the formats that people write
(`contents` and the modules beside it), and the verdicts (`outputs`, `metrics`). Nothing is equivalent by guess: a rule
that was declared or is built in has its name in the verdict.
"""

from orchestrator.compare.metrics import MetricVerdict, compare_metrics
from orchestrator.compare.outputs import OutputVerdict, Result, compare_outputs
from orchestrator.compare.project_rules import project_rules
from orchestrator.compare.rules import OutputRule, Rules, Tolerance, joined, parse_tolerance, parse_tolerances

__all__ = [
    "MetricVerdict",
    "OutputRule",
    "OutputVerdict",
    "Result",
    "Rules",
    "Tolerance",
    "compare_metrics",
    "compare_outputs",
    "joined",
    "parse_tolerance",
    "parse_tolerances",
    "project_rules",
]
