"""Read the finished experiments that `dvc exp show --json` lists.

The workspace is ignored, since its figures are those of a commit or experiment, or unfinished. So
are the figures of failed experiments, where DVC repeats those of the commit they started from.
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

    params: by dotted name, values as written after -S ("fusion.modalities": "[text,vision]");
        parameters of files other than params.yaml are named "file:name", also as after -S.
    metrics: the content of metrics.json.
    """

    name: str
    params: dict[str, str]
    metrics: dict[str, Any]


@dataclass(frozen=True)
class Commit:
    """A commit, its own run (None without metrics), and the experiments from it, oldest first."""

    name: str
    params: dict[str, str]
    run: Experiment | None
    experiments: list[Experiment]


# ---- the parts of DVC 3's JSON that are read ----------------------------------------------------


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
    """Return the commits that experiments started from, and notes on experiments left out.

    Args:
        text: the output of `dvc exp show --json`, with -A or -n to include older commits.

    Raises:
        ValueError: the text is something else, or no experiment is finished.
    """
    try:
        baselines = TypeAdapter(list[_Baseline]).validate_json(text)
    except ValidationError as error:
        fault = error.errors(include_url=False)[0]
        place = ".".join(map(str, fault["loc"]))
        where = f"{place}: " if place else ""
        raise ValueError(
            f"not the output of `dvc exp show --json`: {where}{fault['msg']}"
        ) from None
    notes: list[str] = []
    commits = [commit for baseline in baselines if (commit := _commit(baseline, notes))]
    if not commits:
        found = (
            "no finished experiments; run some (docs/ablations.md), or include those of older "
            "commits with `dvc exp show --json -A`"
        )
        raise ValueError("\n".join([found, *notes]))
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
    queued = []
    for revision, executor in ((entry.revs[0], entry.executor) for entry in entries if entry.revs):
        name = revision.name or revision.rev[:7]
        state = executor.state if executor else "success"
        if state == "queued":
            queued.append(name)
        elif state == "failed" or revision.error:
            notes.append(f"{name} failed; `dvc queue logs {name}` shows why")
        elif state != "success":
            notes.append(f"{name} isn't finished ({state})")
        elif revision.data is None or not (metrics := _metrics(revision.data)):
            notes.append(f"{name} is left out: it has no {METRICS} with 'refavs'")
        else:
            yield Experiment(name, _params(revision.data), metrics)
    if queued:
        names = ", ".join(reversed(queued))
        notes.append(f"{len(queued)} still queued (start them: `dvc exp run --run-all`): {names}")


def _metrics(data: _Data) -> dict[str, Any] | None:
    found = data.metrics.get(METRICS, _File()).data
    return found if found and "refavs" in found else None


def _params(data: _Data) -> dict[str, str]:
    flat: dict[str, str] = {}
    for file, content in data.params.items():
        prefix = "" if file == PARAMS else f"{file}:"
        for row in pd.json_normalize(content.data or {}).to_dict("records"):
            flat |= {f"{prefix}{name}": _as_text(value) for name, value in row.items()}
    return flat


def _as_text(value: Any) -> str:
    if isinstance(value, list):
        return f"[{','.join(map(_as_text, value))}]"
    return value if isinstance(value, str) else json.dumps(value)
