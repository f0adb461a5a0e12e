"""The stages that calibrate a subject's plans, run it under them, and record it so."""

import shutil
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from families import configuration, random_model
from transformers import AutoTokenizer

from lmri.config import RecordOptions, SparseOptions, SplitOptions, TaskOptions, WorldOptions
from lmri.errors import SparseError
from lmri.record import record_task
from lmri.sparse import calibrate_subject, measure_subject, record_sparse
from lmri.sparse.calibrating import VARIANTS, perplexity
from lmri.sparse.measures import DenseScores, largest_within, paired_scores, read_trials, summarise
from lmri.sparse.measures.job import _worst, at_zero
from lmri.sparse.measures.speed import LEAST_ROUNDS, MOST_ROUNDS
from lmri.sparse.plan import SparsePlan
from lmri.sparse.plan_file import read_plan
from lmri.sparse.runtime import sparse
from lmri.stimuli import write_stimuli
from lmri.store import open_recording, read_table, write_table

HASH = "5" * 64
PROVENANCE = {"stage": "test", "subject": HASH}
OPTIONS = SparseOptions(
    policies=("teal", "relu", "skip_experts"),
    sparsities=(0.0, 0.5),
    least_tokens=50,
    trials=12,
    rows=5,
    backend="reference",
    speed_tokens=2,
)


@pytest.fixture(scope="module")
def study(tiny_model_folder, tmp_path_factory):
    """A recorded task of the small world, and its plans."""
    folder = tmp_path_factory.mktemp("sparse")
    write_stimuli(
        out=folder / "stimuli/events.parquet",
        task="events",
        options=TaskOptions("events", "world"),
        splits=SplitOptions(0.4, 0.3, 0.3),
        world=WorldOptions(size="small"),
        seed=0,
        provenance={},
    )
    record_task(
        out=folder / "recordings/events/0.zarr",
        manifest=folder / "recordings/events/0.zarr.manifest.json",
        subject="tiny",
        model=tiny_model_folder,
        task="events",
        stimuli=folder / "stimuli/events.parquet",
        shard=0,
        options=RecordOptions(max_new_tokens=3),
        seed=0,
        provenance=PROVENANCE,
    )
    calibrate(folder, tiny_model_folder, OPTIONS)
    return folder


def calibrate(folder, model, options, recordings=None, seed=0):
    calibrate_subject(
        subject="tiny",
        model=model,
        recordings=recordings or folder / "recordings",
        out=folder / "plans",
        options=options,
        seed=seed,
        provenance=PROVENANCE,
    )


def measure(folder, model, out, options=OPTIONS, **changed):
    measure_subject(
        **{
            "subject": "tiny",
            "model": model,
            "stimuli": folder / "stimuli",
            "tasks": ["events"],
            "plans": folder / "plans",
            "out": out,
            "options": options,
            "seed": 0,
            "provenance": PROVENANCE,
            **changed,
        }
    )
    names = ("quality", "achieved", "speed", "limits")
    return {name: read_table(out / f"{name}.parquet") for name in names}


@pytest.fixture(scope="module")
def tables(study, tiny_model_folder, tmp_path_factory):
    return measure(study, tiny_model_folder, tmp_path_factory.mktemp("runs") / "tiny")


def test_there_is_a_plan_for_every_policy_and_sparsity(study):
    names = {path.stem for path in (study / "plans").glob("*.json")}
    assert names == {"teal_00", "teal_50", "relu", "skip_experts_00", "skip_experts_50"}
    plan = read_plan(study / "plans/teal_50.json", HASH)
    assert plan.dense_tokens == 1
    assert plan.calibration.left_out == 1
    table = read_table(study / "stimuli/events.parquet")
    calibration = set("events/" + table.loc[table["split"] == "calibration", "trial"])
    assert set(plan.calibration.trials) <= calibration


def test_skipping_nothing_changes_nothing(tables):
    rows = tables["quality"].query("plan == 'teal_00'")
    assert set(rows["task"]) == {"events", "all"}
    # Another product of the same numbers: equal but for rounding.
    np.testing.assert_allclose(rows["perplexity_ratio"], 1.0, rtol=1e-5)
    np.testing.assert_allclose(rows["divergence"], 0.0, atol=1e-6)
    assert (rows["exact_change"] == 0).all()
    assert (rows["sparsity"] < 0.01).all()  # exact zeros alone


def test_half_of_every_input_is_half_of_what_the_rule_governs(tables):
    rows = tables["achieved"].query("plan == 'teal_50' and task == 'all'")
    assert (rows["denominator"] == "channels").all()
    np.testing.assert_allclose(rows["calibrated"], 0.5, atol=0.02)
    assert rows["achieved"].between(0.35, 0.65).all()
    assert rows["achieved"].mean() == pytest.approx(0.5, abs=0.05)
    sparsity = tables["quality"].query("plan == 'teal_50' and task == 'all'")["sparsity"].item()
    # Embedded words and routers are read by no projection, and the first token is dense.
    assert 0.1 < sparsity < 0.5
    assert tables["quality"].query("plan == 'teal_50'")["divergence"].gt(0).all()


def test_exactly_k_is_what_is_achieved(study, tiny_model_folder, tmp_path):
    """First tokens that are exempt from a rule are not counted as kept by it."""
    options = replace(OPTIONS, policies=("wina",), sparsities=(0.25,), dense_tokens=3)
    shutil.copytree(study / "recordings", tmp_path / "recordings")
    calibrate(tmp_path, tiny_model_folder, options)
    plans = {"plans": tmp_path / "plans"}
    rows = measure(study, tiny_model_folder, tmp_path / "runs", options, **plans)["achieved"]
    np.testing.assert_allclose(rows["achieved"], rows["calibrated"], atol=1e-9)


def test_what_is_avoided_is_in_bytes_and_operations(tables, tiny_subject):
    quality = tables["quality"]
    # float32: four bytes and two operations for every weight that is not read.
    np.testing.assert_allclose(quality["bytes_avoided"], 2 * quality["flops_avoided"])
    skipped = quality["sparsity"] * multiplied_with(tiny_subject)
    np.testing.assert_allclose(quality["flops_avoided"], 2 * skipped)
    nothing = quality.query("plan == 'teal_00' and task == 'all'")["bytes_avoided"].item()
    half = quality.query("plan == 'teal_50' and task == 'all'")["bytes_avoided"].item()
    assert nothing < 0.05 * half


def multiplied_with(subject) -> int:
    """Weights that one token is multiplied with: of the chosen experts alone."""
    config = subject.model.config
    hidden, layers = config.hidden_size, config.num_hidden_layers
    attention = 4 * hidden**2
    experts = config.num_experts_per_tok * 3 * hidden * config.intermediate_size
    return layers * (attention + experts + config.num_experts * hidden) + hidden * config.vocab_size


CACHES = replace(
    OPTIONS, policies=("cache_heads", "cache_random"), full_heads=((0, 0), (1, 3)), cache_window=4
)


def test_random_heads_are_drawn_by_the_seed_of_the_study(study, tiny_model_folder, tmp_path):
    drawn = []
    for number, seed in enumerate((0, 0, 1, 2, 3)):
        folder = tmp_path / str(number)
        calibrate(folder, tiny_model_folder, CACHES, study / "recordings", seed=seed)
        plans = {path.stem: read_plan(path, HASH) for path in (folder / "plans").glob("*.json")}
        assert [rule.heads for rule in plans["cache_heads"].rules] == [(0,), (3,)]
        heads = [rule.heads for rule in plans["cache_random"].rules]
        assert sum(map(len, heads)) == 2  # of all layers together
        assert plans["cache_random"].parameters["random_seed"] == seed
        drawn.append(heads)
    assert drawn[0] == drawn[1]
    assert any(heads != drawn[0] for heads in drawn[2:])


def test_a_subject_without_a_cache_of_heads_is_spared_these_policies(
    study, tiny_model_folder, tmp_path
):
    tokenizer = AutoTokenizer.from_pretrained(tiny_model_folder)
    latent = random_model(configuration("deepseek_v3", vocab_size=len(tokenizer)))
    latent.save_pretrained(tmp_path / "latent")
    tokenizer.save_pretrained(tmp_path / "latent")
    both = replace(CACHES, policies=("cache_heads", "cache_random", "relu"))
    calibrate(tmp_path, tmp_path / "latent", both, study / "recordings")
    assert [path.stem for path in (tmp_path / "plans").glob("*.json")] == ["relu"]
    with pytest.raises(SparseError, match="nothing that the policies cache_heads, cache_random"):
        calibrate(tmp_path / "none", tmp_path / "latent", CACHES, study / "recordings")


def test_a_plan_at_zero_skips_nothing(study, tiny_subject):
    plan = read_plan(study / "plans/teal_50.json", HASH)
    with sparse(tiny_subject, at_zero(plan), "reference", subject_hash=HASH) as session:
        tiny_subject.model(torch.tensor([[3, 4, 5, 6, 7]]))
    assert session.counts.total("prefill").sparsity < 0.01
    with sparse(tiny_subject, plan, "reference", subject_hash=HASH) as session:
        tiny_subject.model(torch.tensor([[3, 4, 5, 6, 7]]))
    assert session.counts.total("prefill").sparsity > 0.2


def test_speed_has_all_arms_in_turns(tables):
    speed = tables["speed"]
    counts = speed.groupby(["plan", "phase", "arm"]).size().unstack(["phase", "arm"])
    assert counts.eq(counts["decode", "sparse"], axis=0).all(axis=None)
    assert counts.stack(["phase", "arm"]).between(LEAST_ROUNDS, MOST_ROUNDS).all()
    assert set(speed["backend"]) == {"reference"}
    assert (speed["seconds"] > 0).all()
    assert speed.query("plan == 'teal_50'")["ideal"].iloc[0] > 1.05
    assert speed.query("plan == 'teal_00'")["ideal"].iloc[0] < 1.05


def test_limits_name_the_plan_that_skips_most_within_the_loss(tables):
    limits = tables["limits"].set_index("policy")
    assert set(limits.index) == {"teal", "relu", "skip_experts"}
    quality = tables["quality"].query("task == 'all'").set_index("plan")
    for row in limits[limits["plan"] != ""].itertuples():
        assert quality.loc[row.plan, "ratio_high"] < 1 + OPTIONS.loss
        assert row.sparsity == quality.loc[row.plan, "sparsity"]


def test_the_worst_task_is_one_that_loses_answers():
    quality = pd.DataFrame(
        [("s", "p", task, change) for task, change in (("a", 0.0), ("b", -0.2), ("all", -0.4))]
        + [("s", "q", "a", 0.0), ("s", "q", "b", np.nan)],
        columns=["subject", "plan", "task", "exact_change"],
    )
    assert _worst(quality, "s", "p") == "b -0.200"
    assert _worst(quality, "s", "q") == ""


@pytest.mark.parametrize(
    ("ratio", "wanted"),
    [([1.0, 1.005, 1.2], 1), ([1.02, 1.03, 1.1], None), ([1.03, 1.02, 1.0], 2), ([1.0] * 3, 2)],
)
def test_the_largest_sparsity_within_a_loss(ratio, wanted):
    assert largest_within(np.array([0.1, 0.2, 0.3]), np.array(ratio), 0.01) == wanted


def test_the_same_run_gives_the_same_quality(study, tiny_model_folder, tables, tmp_path):
    again = measure(study, tiny_model_folder, tmp_path / "runs")
    for name in ("quality", "achieved", "limits"):
        pd.testing.assert_frame_equal(again[name], tables[name], check_exact=True)


def test_no_trial_that_was_calibrated_on_is_measured_on(study, tiny_subject):
    trials = read_trials(tiny_subject, study / "stimuli", "events", "evaluation", 12, 0)
    assert set(trials.table["split"]) == {"evaluation"}
    few = read_trials(tiny_subject, study / "stimuli", "events", "evaluation", 3, 0)
    assert len(few.ids) == 3 < len(trials.ids)
    # Conditions in turn: none comes twice before each came once.
    assert few.table["condition"].nunique() == min(3, trials.table["condition"].nunique())


def test_scores_of_a_subject_beside_itself(study, tiny_subject, tmp_path):
    trials = read_trials(tiny_subject, study / "stimuli", "events", "evaluation", 10, 0)
    dense = DenseScores(tiny_subject, trials, 4, tmp_path / "dense")
    scores = paired_scores(tiny_subject, dense, trials, 4)
    assert (scores["nll"] == scores["nll_dense"]).all()
    assert (scores["divergence"] == 0).all()
    assert (scores["exact"] == scores["exact_dense"]).all()
    ids, start = trials.ids[3], trials.starts[3]
    with torch.inference_mode():
        logits = tiny_subject.model(torch.tensor([ids])).logits[0]
    said = torch.log_softmax(logits, -1)[torch.arange(start - 1, len(ids) - 1), ids[start:]]
    assert scores["nll"][3] == pytest.approx(-said.mean().item(), abs=1e-5)
    assert scores["n_tokens"][3] == len(ids) - start


def test_a_change_of_the_loss_is_told_with_its_interval():
    scores = pd.DataFrame(
        {
            "nll": [1.1, 1.3, 1.2, 1.2],
            "nll_dense": [1.0] * 4,
            "divergence": [0.1] * 4,
            "exact": [1.0, 0.0, np.nan, np.nan],
            "exact_dense": [1.0, 1.0, np.nan, np.nan],
        }
    )
    trials = pd.DataFrame({"task": "events", "carrier_place": ["a", "b", "c", "d"]})
    trials["trial"] = trials["carrier_place"]
    summary = summarise(scores, trials, seed=0)
    assert summary["perplexity_ratio"] == pytest.approx(np.exp(0.2))
    assert summary["ratio_low"] < np.exp(0.2) < summary["ratio_high"]
    assert summary["exact"] == 0.5
    assert summary["exact_change"] == -0.5
    assert (summary["n"], summary["n_carriers"]) == (4, 4)


def losses(differences: np.ndarray) -> pd.DataFrame:
    dense = np.ones_like(differences)
    return pd.DataFrame(
        {"nll": dense + differences, "nll_dense": dense, "divergence": differences, "exact": np.nan}
    ).assign(exact_dense=np.nan)


def log_width(summary: dict) -> float:
    return np.log(summary["ratio_high"]) - np.log(summary["ratio_low"])


@pytest.mark.parametrize("second", ["carrier_year", "carrier_place", None])
def test_the_interval_of_several_tasks_is_that_of_their_carriers(second):
    # Two tasks of 100 independent trials: of other carriers, of the same kind, or without any.
    rng = np.random.default_rng(0)
    scores = losses(rng.normal(size=200))
    trials = pd.DataFrame({"task": np.repeat(["a", "b"], 100), "trial": np.tile(range(100), 2)})
    names = pd.Series(range(200)).astype(str)
    trials["carrier_place"] = names.where(trials["task"] == "a")
    if second is not None:
        own = names.where(trials["task"] == "b")
        trials[second] = trials[second].fillna(own) if second in trials else own
    summary = summarise(scores, trials, seed=0)
    wanted = 2 * 1.96 * scores["divergence"].std() / np.sqrt(200)
    assert log_width(summary) == pytest.approx(wanted, rel=0.1)
    assert summary["n_carriers"] == (200 if second == "carrier_place" else 100)


def test_carriers_that_tasks_share_are_drawn_once_for_both():
    rng = np.random.default_rng(0)
    differences = np.tile(rng.normal(size=20).repeat(5), 2)  # of 20 places, in both tasks
    places = pd.Series(range(20)).astype(str).repeat(5).tolist() * 2
    trials = pd.DataFrame(
        {"task": np.repeat(["a", "b"], 100), "trial": np.tile(range(100), 2)}
    ).assign(carrier_place=places, carrier_year=None)
    trials.loc[trials["task"] == "b", "carrier_year"] = "1990"
    summary = summarise(losses(differences), trials, seed=0)
    wanted = 2 * 1.96 * differences.std() / np.sqrt(20)
    assert log_width(summary) == pytest.approx(wanted, rel=0.15)


def test_perplexity_of_the_dense_plan_is_that_of_the_subject(study, tiny_subject):
    from lmri.sparse.calibration import Texts

    texts = Texts(("a",), (np.array([3, 4, 5, 6]),), "")
    with torch.inference_mode():
        ids = torch.tensor([[3, 4, 5, 6]])
        said = torch.log_softmax(tiny_subject.model(ids).logits[0, :-1], -1)
    wanted = torch.exp(-said.gather(1, ids[0, 1:, None]).mean()).item()
    found = perplexity(tiny_subject, texts, SparsePlan("none", ""), rows=2)
    assert found == pytest.approx(wanted, rel=1e-5)


def test_a_sparse_subject_answers_and_is_recorded_as_such(study, tiny_model_folder, tmp_path):
    def record(plan):
        out = tmp_path / plan / "0.zarr"
        record_sparse(
            out=out,
            manifest=out.with_name("0.zarr.manifest.json"),
            subject="tiny",
            model=tiny_model_folder,
            task="events",
            stimuli=study / "stimuli/events.parquet",
            plan=study / f"plans/{plan}.json",
            options=RecordOptions(splits=("selection",), max_new_tokens=3),
            seed=0,
            provenance=PROVENANCE,
        )
        found = open_recording(out, out.with_name("0.zarr.manifest.json"))
        return found.array("tokens/router/weight")[:], found.trials

    dense = open_recording(
        study / "recordings/events/0.zarr", study / "recordings/events/0.zarr.manifest.json"
    )
    (nothing, trials), (half, _) = record("teal_00"), record("teal_50")
    assert set(trials["split"]) == {"selection"}
    rows = dense.array("tokens/index/trial")[:]
    selection = np.flatnonzero((dense.trials["split"] == "selection").to_numpy())
    wanted = dense.array("tokens/router/weight")[:][np.isin(rows, selection)]
    np.testing.assert_allclose(nothing, wanted, atol=1e-3)
    assert nothing.shape != half.shape or np.abs(nothing - half).max() > 0.01


def test_every_variant_is_a_policy():
    from lmri.sparse.policies import POLICIES

    assert {variant.policy for variant in VARIANTS.values()} <= set(POLICIES)


def test_plans_of_another_subject_are_refused(study, tiny_model_folder, tmp_path):
    other = {**PROVENANCE, "subject": "6" * 64}
    with pytest.raises(SparseError, match="subject"):
        measure(study, tiny_model_folder, tmp_path / "runs", provenance=other)
    assert not (tmp_path / "runs").exists()


def test_without_plans_there_is_nothing_to_run(study, tiny_model_folder, tmp_path):
    with pytest.raises(SparseError, match=r"no plan\. Calibrate before"):
        measure(study, tiny_model_folder, tmp_path / "runs", plans=tmp_path)


def test_a_task_without_evaluation_trials_is_refused(study, tiny_model_folder, tmp_path):
    table = read_table(study / "stimuli/events.parquet")
    write_table(tmp_path / "stimuli/events.parquet", table[table["split"] != "evaluation"])
    with pytest.raises(SparseError, match="split 'evaluation' must hold trials"):
        measure(study, tiny_model_folder, tmp_path / "runs", stimuli=tmp_path / "stimuli")


def test_too_few_tokens_are_refused_and_nothing_is_written(study, tiny_model_folder, tmp_path):
    options = SparseOptions(policies=("teal",), least_tokens=10**6)
    with pytest.raises(SparseError, match="at least 1000000 tokens"):
        calibrate(tmp_path, tiny_model_folder, options, study / "recordings")
    assert not (tmp_path / "plans").exists()
