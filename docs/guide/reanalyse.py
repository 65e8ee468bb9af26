"""Areas under ROC curves from `ceteris export E predictions.parquet`, next to those of `ceteris compare E -o json`."""
import json, sys
import pandas
from sklearn.metrics import roc_auc_score
rows, compared = pandas.read_parquet(sys.argv[1]), json.load(open(sys.argv[2]))
for arm in compared["arms"]:
    for run in arm["runs"]:
        for scored, scores in (run["metrics"].pop("external", {}) | run["metrics"]).items():
            of = rows[(rows["run"] == run["run"]) & (rows["scored"] == scored)]
            area = roc_auc_score(of["label"] == compared["positive_class"], of["score"])
            print(arm["name"], run["seed"], scored, area, scores["auc"], "equal" if abs(area - scores["auc"]) < 1e-9 else "DIFFERENT")
