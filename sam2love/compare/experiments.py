"""The finished experiments that `dvc exp show --json` lists, and what of it is no result.

The workspace is left out: what it holds is a commit's or an experiment's, or not finished. So are
the figures of experiments that failed: DVC shows those of the commit that they started from.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pandas as pd
from pydantic import BaseModel, TypeAdapter, ValidationError

PARAMS, METRICS = "params.yaml", "metrics.json"


@dataclass(frozen=True)
class Experiment:
    """A finished run.

    params: by dotted name, values as written behind -S ("fusion.modalities": "[text,vision]"); of
        parameter files other than params.yaml the name is "file:name", also as behind -S.
    metrics: the content of metrics.json.
    """

    name: str
    params: dict[str, str]
    metrics: dict[str, Any]


@dataclass(frozen=True)
class Commit:
    """A commit, what was run at it (None if it has no metrics), and from it, oldest first."""

    name: str
    params: dict[str, str]
    run: Experiment | None
    experiments: list[Experiment]


# ---- the JSON of DVC 3, as far as it is read ----------------------------------------------------


class _File(BaseModel):
    data: dict[str, Any] | None = None


class _Data(BaseModel):
    params: dict[str, _File]
    metrics: dict[str, _File]


class _Error(BaseModel):
    msg: str


class _Revision(BaseModel):
    rev: str
    name: str | None = None
    data: _Data | None = None
    error: _Error | None = None


class _Executor(BaseModel):
    state: str


class _Entry(BaseModel):
    revs: list[_Revision]
    executor: _Executor | None = None


class _Baseline(_Revision):
    experiments: list[_Entry] | None = None


def read_experiments(text: str) -> tuple[list[Commit], list[str]]:
    """The commits from which experiments started, and notes on what isn't shown.

    Args:
        text: what `dvc exp show --json` prints, with -A or -n if they started from older commits.

    Raises:
        ValueError: it is something else, or no experiment is finished.
    """
    try:
        baselines = TypeAdapter(list[_Baseline]).validate_json(text)
    except ValidationError as error:
        fault = error.errors(include_url=False)[0]
        place = ".".join(map(str, fault["loc"]))
        raise ValueError(
            f"not what `dvc exp show --json` prints: {place + ': ' if place else ''}{fault['msg']}"
        ) from None
    notes: list[str] = []
    commits = [commit for baseline in baselines if (commit := _commit(baseline, notes))]
    if not commits:
        advice = (
            "run some (docs/ablations.md), or ask for older commits' too: `dvc exp show --json -A`"
        )
        raise ValueError("\n".join([f"no finished experiments; {advice}", *notes]))
    return commits, notes


def _commit(baseline: _Baseline, notes: list[str]) -> Commit | None:
    if baseline.rev == "workspace" or not baseline.experiments:
        return None
    name = f"{baseline.name} ({baseline.rev[:7]})" if baseline.name else baseline.rev[:7]
    if baseline.data is None:
        fault = baseline.error.msg if baseline.error else "no parameters"
        notes.append(f"commit {name} and its experiments are left out: {fault}")
        return None
    experiments = list(_finished(baseline.experiments, notes))[::-1]
    metrics = _metrics(baseline.data)
    params = _params(baseline.data)
    run = Experiment(name, params, metrics) if metrics else None
    return Commit(name, params, run, experiments) if experiments else None


def _finished(entries: list[_Entry], notes: list[str]) -> Iterator[Experiment]:
    waiting = []
    for revision, executor in ((entry.revs[0], entry.executor) for entry in entries if entry.revs):
        name = revision.name or revision.rev[:7]
        state = executor.state if executor else "success"
        if state == "queued":
            waiting.append(name)
        elif state == "failed" or revision.error:
            notes.append(f"{name} failed; `dvc queue logs {name}` tells why")
        elif state != "success":
            notes.append(f"{name} isn't finished ({state})")
        elif revision.data is None or not (metrics := _metrics(revision.data)):
            notes.append(f"{name} is left out: it has no {METRICS} with 'refavs'")
        else:
            yield Experiment(name, _params(revision.data), metrics)
    if waiting:
        told = ", ".join(reversed(waiting))
        notes.append(f"{len(waiting)} wait in the queue for `dvc exp run --run-all`: {told}")


def _metrics(data: _Data) -> dict[str, Any] | None:
    found = data.metrics.get(METRICS, _File()).data
    return found if found and "refavs" in found else None


def _params(data: _Data) -> dict[str, str]:
    flat: dict[str, str] = {}
    for file, content in data.params.items():
        prefix = "" if file == PARAMS else f"{file}:"
        for row in pd.json_normalize(content.data or {}).to_dict("records"):
            flat |= {f"{prefix}{name}": _written(value) for name, value in row.items()}
    return flat


def _written(value: Any) -> str:
    if isinstance(value, list):
        return f"[{','.join(map(_written, value))}]"
    return value if isinstance(value, str) else json.dumps(value)
