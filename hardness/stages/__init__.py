"""Stages: a config in, a run folder out."""

from hardness import config as c

STAGES = {
    c.Pack: "hardness.stages.pack:pack",
    c.Track: "hardness.stages.track:track",
    c.Show: "hardness.stages.show:show",
    c.Score: "hardness.stages.score:score",
    c.Labels: "hardness.stages.labels:labels",
    c.Split: "hardness.stages.split:split",
    c.Retrain: "hardness.stages.retrain:retrain",
    c.Memorize: "hardness.stages.memorize:memorize",
    c.Report: "hardness.stages.report:report",
    c.Compare: "hardness.stages.compare:compare",
    c.Export: "hardness.stages.export:export",
}
"""Where each is, by its dataclass."""
