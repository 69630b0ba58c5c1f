"""The CRDs within the chart."""

from __future__ import annotations

import yaml

from tests.chart.charts import ROOT, Chart


def test_the_chart_installs_the_generated_crds_unchanged(chart: Chart) -> None:
    sources = [yaml.safe_load(path.read_text()) for path in sorted((ROOT / "k8s" / "crds").glob("*.yaml"))]
    rendered = chart.render()
    assert rendered.names("CustomResourceDefinition") == {source["metadata"]["name"] for source in sources} != set()
    for source in sources:
        assert rendered.one("CustomResourceDefinition", source["metadata"]["name"])["spec"] == source["spec"]


def test_uninstalling_keeps_them_unless_told_otherwise(chart: Chart) -> None:
    for crd in chart.render().all("CustomResourceDefinition"):
        assert crd["metadata"]["annotations"]["helm.sh/resource-policy"] == "keep"
    for crd in chart.render({"crds": {"keep": False}}).all("CustomResourceDefinition"):
        assert "helm.sh/resource-policy" not in crd["metadata"].get("annotations", {})


def test_a_second_release_leaves_them_to_the_first(chart: Chart) -> None:
    assert not chart.render({"crds": {"install": False}}).all("CustomResourceDefinition")
