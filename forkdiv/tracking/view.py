"""The view of a study in MLflow's page: a table of its trials, and charts of what they keep.

MLflow keeps shared views as tags of the experiment; the format is that of its *Share* button. A
page that does not know it shows its own charts.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from forkdiv.tracking.events import RUN
from forkdiv.tracking.names import valid_name
from forkdiv.tracking.server import PARENT_TAG

SECTION = "forkdiv"
MAX_COLUMNS = 8
KIND_TAG, KIND = "mlflow.experimentKind", "custom_model_development"


def view_key(fingerprint: str) -> str:
    """Returns the name of a study's view in addresses."""
    return f"forkdiv-{fingerprint[:8]}"


def view_tags(
    fingerprint: str, axes: Sequence[str], numeric: Sequence[str], ks: Sequence[int]
) -> dict[str, str]:
    """Returns the tags of the experiment that hold the view. `axes` are the params that the study
    varies, `numeric` those of them with numbers; `ks` are the smallest and the largest k."""
    first, last = f"pass_at_{ks[0]}", f"pass_at_{ks[-1]}"
    change = f"delta_{last}"
    charts = [
        _chart("BAR", metricKey=change),
        _chart("BAR", metricKey=last),
        _chart("LINE", metricKey="pass_at_k", selectedMetricKeys=["pass_at_k"], **_LINE),
        _chart("SCATTER", xaxis=_axis(first, "METRIC"), yaxis=_axis(last, "METRIC")),
    ]
    if axes:
        shown = {"selectedParams": [valid_name(axis) for axis in axes], "showAllRuns": True}
        charts.append(_chart("PARALLEL", selectedMetrics=[first, last], **shown))
    if len(numeric) > 1:
        x, y = (_axis(valid_name(axis), "PARAM") for axis in numeric[:2])
        charts.append(_chart("CONTOUR", xaxis=x, yaxis=y, zaxis=_axis(last, "METRIC")))
    columns = [f"params.`{valid_name(axis)}`" for axis in axes[:MAX_COLUMNS]]
    columns += [f"metrics.`{name}`" for name in (first, last, change)]
    state = {
        "searchFilter": f"tags.`{PARENT_TAG}` = '{RUN}'",
        "orderByKey": f"metrics.`{last}`",
        "orderByAsc": False,
        "selectedColumns": columns,
        "compareRunCharts": [chart | {"uuid": f"{SECTION}{i}"} for i, chart in enumerate(charts)],
        "compareRunSections": [
            {
                "uuid": SECTION,
                "name": f"Which setting keeps pass@{ks[-1]}?",
                "display": True,
                "isReordered": False,
                "deleted": False,
                "isGenerated": False,
            }
        ],
        **_STATE,
    }
    key = f"mlflow.sharedViewState.{view_key(fingerprint)}"
    return {KIND_TAG: KIND, key: json.dumps(state, separators=(",", ":"))}


_LINE: dict[str, Any] = {
    "lineSmoothness": 0,
    "xAxisScaleType": "log",
    "scaleType": "linear",
    "range": {},
    "xAxisKey": "step",
    "selectedXAxisMetricKey": "",
    "yAxisKey": "metric",
    "yAxisExpressions": [],
    "ignoreOutliers": False,
    "useGlobalXaxisKey": False,
    "useGlobalLineSmoothing": True,
}
_STATE: dict[str, Any] = {
    "startTime": "ALL",
    "lifecycleFilter": "Active",
    "datasetsFilter": [],
    "modelVersionFilter": "All Runs",
    "columnOrder": [],
    "columnWidths": {},
    "runsExpanded": {},
    "runsPinned": [],
    "runsHidden": [],
    "runsVisibilityMap": {},
    "runsHiddenMode": "SHOWALL",
    "viewMaximized": False,
    "runListHidden": False,
    "isAccordionReordered": True,
    "useGroupedValuesInCharts": True,
    "hideEmptyCharts": True,
    "groupBy": None,
    "groupsExpanded": {},
    "autoRefreshEnabled": True,
    "globalLineChartConfig": {
        "xAxisKey": "step",
        "lineSmoothness": 0,
        "selectedXAxisMetricKey": "",
    },
}


def _chart(kind: str, **settings: Any) -> dict[str, Any]:
    common = {
        "type": kind,
        "runsCountToCompare": 100,
        "metricSectionId": SECTION,
        "deleted": False,
        "isGenerated": False,
    }
    return common | settings


def _axis(key: str, kind: str) -> dict[str, str]:
    return {"key": key, "type": kind}
