"""Steps of the kind ``run`` for the suite that every executor passes."""

from __future__ import annotations

from workers.executors.samples import Samples

SAMPLES = Samples(
    succeeds="echo went well",
    prints="went well",
    fails="echo went badly; exit 3",
    complains="went badly",
    hangs="echo begun; sleep 1000 & sleep 1000",
    leaks="echo $SAMPLE_TOKEN",
    refused=(None, "", 7, ["make"], "a\x00b"),
)
