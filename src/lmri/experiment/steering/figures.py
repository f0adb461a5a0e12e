"""What the tables of steering say, and the figures of them."""

from lmri.experiment.outcome import Drawn

CAPTIONS = {
    "effects": (
        "What vectors do on evaluation trials at the layer and scale that calibration trials gave, "
        "beside controls of the same length: of controls, mean and middle 95 % of the draws. The "
        "cosine is that of the vector, with its sign, and the mean difference."
    ),
    "uncertainty": "The same of vectors that are to make the next token less certain, in nats.",
    "scales": "Behaviour, divergence and entropy of the next token by scale, in nats.",
    "responses": (
        "Whole responses to evaluation trials: the share that is the refusal, and that tells the "
        "true fact."
    ),
    "searched": "The search on calibration trials: the smallest scale that reaches the target.",
    "bystanders": "Right answers of bystanders while the behaviour is taken away.",
    "row_space": "Effects of the parts of each vector that the model reads, and does not read.",
}
_CURVE = {"table": "scales", "kind": "line", "x": "scale", "low": None, "high": None}
FIGURES = [
    Drawn(
        table="effects",
        kind="dots",
        x="aim",
        y="change",
        low="low",
        high="high",
        series="arm",
        title="What vectors do, beside controls of their length",
        caption=(
            "Change of the score with its interval over carriers; of controls the middle 95 % of "
            "their draws. Good: the vector far from 0 on its side, both controls around 0."
        ),
        against="Controls that reach as far as the vector: any push of this length does it.",
    ),
    Drawn(
        table="uncertainty",
        kind="dots",
        x="aim",
        y="change",
        low="low",
        high="high",
        series="arm",
        title="How much less certain the next token becomes, beside controls",
        caption=(
            "Change of its entropy in nats; of controls the middle 95 % of their draws. Good: the "
            "vector right of both controls."
        ),
        against="Controls that reach as far: any push of this length unsettles the subject.",
    ),
    Drawn(
        **_CURVE,
        y="behaviour",
        series="curve",
        title="The behaviour by scale",
        caption=(
            "Good: a curve that rises from left to right and is, at 0, low for the control "
            "condition and high for the target."
        ),
        against="A flat curve, or one that falls on both sides of 0: any large push breaks it.",
    ),
    Drawn(
        **_CURVE,
        y="divergence",
        series="curve",
        title="How far the next token moves, by scale",
        caption=(
            "Kullback-Leibler divergence of the intact distribution from the steered one. Good: "
            "near 0 where the behaviour is already as wanted."
        ),
        against="A large divergence on both sides of 0 with no change of the behaviour.",
    ),
    Drawn(
        **_CURVE,
        y="entropy",
        series="curve",
        title="How uncertain the next token is, by scale",
        caption="Good: low at the scales that are used, so that something is said with certainty.",
        against="A rise with the behaviour: the subject babbles rather than changes its mind.",
    ),
]
