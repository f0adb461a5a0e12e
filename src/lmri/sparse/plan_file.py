"""Plans as files: a JSON that says everything, and its tensors beside it.

``<policy>.json`` holds the rules, what was asked and what was achieved; numbers of one channel each
are in ``<policy>.safetensors``, whose SHA-256 stands in the JSON. The schema is in
``docs/sparse.md``. As for a finding, a plan that was changed after it was written is refused.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import MISSING, asdict, fields
from datetime import UTC, datetime
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save_file
from torch import Tensor

from lmri.anatomy import Anatomy
from lmri.checks import check_choice, shortened
from lmri.errors import SparseError
from lmri.sparse.plan import Achieved, Calibration, SparsePlan
from lmri.sparse.plan_checks import check_plan_fits, check_rules
from lmri.sparse.rules import RULES, Rule
from lmri.store.atomic import atomic_file, write_text_atomic

SCHEMA = "lmri.plan/1"
TENSOR = "tensor"
"""Key of a field whose value is in the file of tensors, under the name that follows."""

TENSOR_FIELDS = ("threshold", "scale")
FIELDS = {
    "policy": str,
    "subject": str,
    "rules": list,
    "parameters": dict,
    "dense_tokens": int,
    "dense_prefill": bool,
    "calibration": dict,
    "achieved": list,
}


def write_plan(path: Path, plan: SparsePlan, provenance: Mapping | None = None) -> dict:
    """Write a plan with the time and its hash.

    Parameters
    ----------
    path : Path
        The file to write, ``<policy>.json``; tensors go beside it.
    plan : SparsePlan
        The plan.
    provenance : mapping, optional
        What made it, plain JSON.

    Returns
    -------
    dict
        The plan as written.

    Raises
    ------
    SparseError
        If a rule holds what no rule may hold; nothing is written then.
    """
    check_rules(plan, str(path))
    tensors: dict[str, Tensor] = {}
    content = {
        "schema": SCHEMA,
        "policy": plan.policy,
        "subject": plan.subject,
        "dense_tokens": plan.dense_tokens,
        "dense_prefill": plan.dense_prefill,
        "parameters": plan.parameters,
        "calibration": asdict(plan.calibration),
        "rules": [_rule_to_json(i, rule, tensors) for i, rule in enumerate(plan.rules)],
        "achieved": [asdict(achieved) for achieved in plan.achieved],
        "provenance": dict(provenance or {}),
        "written": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    # Through JSON first, so that the hash is that of what a reader will see.
    content = json.loads(json.dumps(content, allow_nan=False))
    # Without its JSON no file of tensors counts: a killed job leaves no plan rather than a mixture.
    path.unlink(missing_ok=True)
    beside = path.with_suffix(".safetensors")
    content["tensors"] = _write_tensors(beside, tensors)
    content["hash"] = plan_hash(content)
    write_text_atomic(path, json.dumps(content, indent=1, allow_nan=False) + "\n")
    return content


def read_plan(path: Path, subject: str | None = None, anatomy: Anatomy | None = None) -> SparsePlan:
    """Read a plan and refuse one that was changed, or that is not for this subject.

    Parameters
    ----------
    path : Path
        ``<policy>.json``.
    subject : str, optional
        Hash of the subject it is to be run on.
    anatomy : Anatomy, optional
        Of that subject.

    Returns
    -------
    SparsePlan
        The plan.

    Raises
    ------
    SparseError
        If it is missing, unreadable, incomplete or altered, if its subject is another one, or if a
        rule is for a site that the subject lacks or holds what no rule may hold.
    """
    content = _read_json(path)
    if content.get("hash") != plan_hash(content):
        _altered(path, "its hash does not match")
    for field, kind in FIELDS.items():
        if not isinstance(content.get(field), kind):
            got = shortened(content[field]) if field in content else "nothing"
            raise SparseError(
                f"{path}: the '{field}' of a plan must be {kind.__name__}. Got {got}. "
                "Calibrate again."
            )
    tensors = _read_tensors(path, content.get("tensors"))
    try:
        plan = SparsePlan(
            policy=content["policy"],
            subject=content["subject"],
            rules=tuple(_rule_from_json(path, entry, tensors) for entry in content["rules"]),
            parameters=content["parameters"],
            dense_tokens=content["dense_tokens"],
            dense_prefill=content["dense_prefill"],
            calibration=_calibration(content["calibration"]),
            achieved=tuple(Achieved(**entry) for entry in content["achieved"]),
        )
    except TypeError as error:  # a field too many or too few
        raise SparseError(
            f"{path}: not a plan of this version ({error}). Calibrate again."
        ) from None
    check_rules(plan, str(path))
    if subject is not None or anatomy is not None:
        check_plan_fits(plan, subject, anatomy, str(path))
    return plan


def plan_hash(content: Mapping) -> str:
    """Hash a plan: SHA-256 of its canonical JSON without ``hash`` and ``written``.

    The hash of the tensors is part of it.

    Parameters
    ----------
    content : mapping
        The plan as in its file.

    Returns
    -------
    str
        SHA-256 in hexadecimal.
    """
    kept = {key: value for key, value in content.items() if key not in {"hash", "written"}}
    text = json.dumps(kept, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


def _rule_to_json(number: int, rule: Rule, tensors: dict[str, Tensor]) -> dict:
    entry: dict[str, object] = {"rule": rule.name}
    for field in fields(rule):
        value = getattr(rule, field.name)
        if isinstance(value, Tensor):
            if value.dim() == 0 and bool(value.isfinite()):
                value = float(value)  # every float32 is a float64
            else:
                name = f"{number}.{field.name}"
                tensors[name] = value.detach().to("cpu", torch.float32).contiguous()
                value = {TENSOR: name}
        entry[field.name] = value
    return entry


def _rule_from_json(path: Path, entry: object, tensors: dict[str, Tensor]) -> Rule:
    name = entry.get("rule") if isinstance(entry, dict) else None
    check_choice(name, RULES, "rule", f"the plan {path}", SparseError)
    kind, values = RULES[name], {}
    for field in fields(kind):
        if field.name not in entry:
            if field.default is MISSING:
                raise SparseError(
                    f"{path}: a rule '{name}' lacks its '{field.name}'. Calibrate again."
                )
            continue
        value = entry[field.name]
        if isinstance(value, dict):
            if value.get(TENSOR) not in tensors:
                _altered(path, f"a rule needs the tensor {value.get(TENSOR)!r}, which is not there")
            value = tensors[value[TENSOR]]
        elif field.name in TENSOR_FIELDS and value is not None:
            value = torch.tensor(float(value), dtype=torch.float32)
        elif isinstance(value, list):
            value = tuple(value)
        values[field.name] = value
    return kind(**values)


def _calibration(entry: dict) -> Calibration:
    return Calibration(**{**entry, "trials": tuple(entry.get("trials", ()))})


def _write_tensors(path: Path, tensors: dict[str, Tensor]) -> dict | None:
    if not tensors:
        path.unlink(missing_ok=True)  # of an earlier plan
        return None
    with atomic_file(path) as partial:
        save_file(tensors, partial)
        sha256 = hashlib.sha256(partial.read_bytes()).hexdigest()
    return {"file": path.name, "sha256": sha256}


def _read_tensors(path: Path, entry: dict | None) -> dict[str, Tensor]:
    if entry is None:
        return {}
    # Not the name in the JSON: it could lead anywhere.
    beside = path.with_suffix(".safetensors")
    try:
        data = beside.read_bytes()
    except OSError:
        raise SparseError(
            f"{beside}: the tensors of the plan {path.name} are missing. Calibrate again."
        ) from None
    if hashlib.sha256(data).hexdigest() != entry.get("sha256"):
        _altered(beside, f"its hash is not the one in {path.name}")
    try:
        return load(data)
    except SafetensorError as error:
        raise SparseError(f"{beside}: not readable ({error}). Calibrate again.") from None


def _read_json(path: Path) -> dict:
    try:
        content = json.loads(path.read_text(encoding="utf-8"), parse_constant=_no_number)
    except FileNotFoundError:
        raise SparseError(f"{path}: no such plan. Was the job that writes it finished?") from None
    except (OSError, ValueError) as error:
        raise SparseError(f"{path}: not a readable plan ({error}). Calibrate again.") from None
    if not isinstance(content, dict) or content.get("schema") != SCHEMA:
        raise SparseError(f"{path}: the 'schema' of a plan must be '{SCHEMA}'. Calibrate again.")
    return content


def _no_number(text: str) -> None:
    raise ValueError(f"{text} is no number")


def _altered(path: Path, reason: str) -> None:
    raise SparseError(
        f"{path}: the plan was changed after it was written ({reason}). Delete it and calibrate "
        "again."
    )
