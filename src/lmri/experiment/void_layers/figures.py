"""What the tables of void layers say, and the figures of them."""

from lmri.experiment.outcome import Drawn

CAPTIONS = {
    "where_void": (
        "Share of tokens of evaluation trials at which each layer is void, with its interval over "
        "carriers."
    ),
    "where_void_calibration": "The same of calibration trials, which say what is passed over.",
    "runs": (
        "What passing over costs on evaluation trials: nats a token of the right answer, and the "
        "change of the share of right answers. Controls are means over their draws."
    ),
    "shares": "The same on calibration trials with other shares as the threshold.",
}
FIGURES = [
    Drawn(
        table="where_void",
        kind="heat",
        x="where",
        y="layer",
        low=None,
        high=None,
        series="share",
        title="Where layers are void",
        caption=(
            "Full colour: void at the largest share of tokens. Good for saving: a layer that is "
            "void nearly everywhere."
        ),
        against="Blank rows: these layers change every token, and nothing can be passed over.",
    ),
    Drawn(
        table="runs",
        kind="dots",
        x="arm",
        y="cost",
        low="cost_low",
        high="cost_high",
        series="task",
        title="What passing over costs",
        caption=(
            "Nats a token that the right answer loses, with the interval over carriers. Good: void "
            "layers near 0 and left of both controls, which pass over as much."
        ),
        against=(
            "Void layers as costly as random ones: then the norm does not tell what a token can do "
            "without."
        ),
    ),
    Drawn(
        table="shares",
        kind="line",
        x="passed_over",
        y="exact",
        low=None,
        high=None,
        series="task",
        title="Right answers against what is passed over, on calibration trials",
        caption=(
            "Each mark is a threshold. Good: a curve that stays at the height of its left end "
            "while it goes to the right."
        ),
        against="A fall as soon as anything is passed over.",
    ),
]
