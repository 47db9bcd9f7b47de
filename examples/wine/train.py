"""Fit an elastic net that predicts the quality of a wine from its chemistry.

    python train.py ALPHA L1_RATIO

Writes model.json (the coefficients) and predictions.csv (of the wines that were held back).
"""

import json
import os
import sys
from pathlib import Path

import numpy as np
import pandas as pd
from sklearn.linear_model import ElasticNet
from sklearn.metrics import mean_absolute_error, mean_squared_error, r2_score
from sklearn.model_selection import train_test_split

SEED = 40


def log_metrics(metrics):
    """Tell orch, when it runs this, what came out: a JSON line each in the file that ORCH_EVENTS names."""
    if events := os.environ.get("ORCH_EVENTS"):
        with Path(events).open("a", encoding="utf-8") as file:
            for name, value in metrics.items():
                file.write(json.dumps({"metric": name, "value": value}) + "\n")


def main(alpha, l1_ratio):
    wines = pd.read_csv(Path(__file__).with_name("wine-quality.csv"))
    train, test = train_test_split(wines, random_state=SEED)
    model = ElasticNet(alpha=alpha, l1_ratio=l1_ratio, random_state=SEED)
    model.fit(train.drop(columns="quality"), train["quality"])
    predicted = model.predict(test.drop(columns="quality"))

    metrics = {
        "rmse": float(np.sqrt(mean_squared_error(test["quality"], predicted))),
        "mae": float(mean_absolute_error(test["quality"], predicted)),
        "r2": float(r2_score(test["quality"], predicted)),
    }
    log_metrics(metrics)

    coefficients = dict(zip(model.feature_names_in_, model.coef_.tolist(), strict=True))
    content = {"intercept": float(model.intercept_), "coefficients": coefficients}
    Path("model.json").write_text(json.dumps(content, indent=2) + "\n")
    results = pd.DataFrame({"quality": test["quality"], "predicted": predicted.round(6)})
    results.sort_index().to_csv("predictions.csv", index_label="wine")

    print(
        f"Elasticnet model (alpha={alpha:g}, l1_ratio={l1_ratio:g}): "
        f"RMSE {metrics['rmse']:.2f}, MAE {metrics['mae']:.2f}, R2 {metrics['r2']:.2f}"
    )


if __name__ == "__main__":
    main(*map(float, sys.argv[1:3]))
