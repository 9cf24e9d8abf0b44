"""The importances of hyper-parameters as bars, by both methods."""

from __future__ import annotations

from typing import TYPE_CHECKING

import plotly.graph_objects as go

from autometa.report.importances import TooAlikeError, fanova, ped_anova
from autometa.report.plots import BLUE, ORANGE, Plot, style

if TYPE_CHECKING:
    import optuna

PED_ANOVA, FANOVA = "PED-ANOVA", "fANOVA"
FEWEST = 4
MOST = 15
FEW = 30


def importances(study: optuna.Study) -> Plot:
    """Bars of both methods."""
    from optuna.trial import TrialState

    name, title = "importances", "Importance of hyper-parameters"
    complete = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    if len(complete) < FEWEST:
        few = f"{len(complete)} complete trials are too few to tell which hyper-parameters matter"
        return Plot(name, title, None, f"{few}: at least {FEWEST} are needed.")
    try:
        found = {PED_ANOVA: ped_anova(study), FANOVA: fanova(study)}
    except TooAlikeError:
        return Plot(name, title, None, "The scores are too alike to tell what made the difference.")
    shown = _top(found)
    if not shown:
        return Plot(name, title, None, "The complete trials don't differ in what is searched.")
    figure = go.Figure()
    for (method, shares), colour in zip(found.items(), (BLUE, ORANGE), strict=True):
        figure.add_bar(
            x=[shares.get(each) for each in shown],
            y=shown,
            orientation="h",
            name=method,
            marker={"color": colour},
            hovertemplate=f"%{{y}}, {method}: %{{x:.3f}}<extra></extra>",
        )
    style(figure, title, "share", "")
    figure.update_layout(height=110 + 34 * len(shown), barmode="group", bargap=0.3)
    figure.update_yaxes(automargin=True, autorange="reversed")
    note = (
        "Shares of a method sum to 1. PED-ANOVA: what sets the best tenth apart. fANOVA: what "
        "moves the score anywhere, of parameters that all trials have. "
        f"From {len(complete)} complete trials"
    )
    note += ": a hint rather than a measurement." if len(complete) < FEW else "."
    return Plot(name, title, figure, _alt(found), note)


def _top(found: dict[str, dict[str, float]]) -> list[str]:
    """The parameters that either method gives most, most first."""
    most: dict[str, float] = {}
    for shares in found.values():
        for name, share in shares.items():
            most[name] = max(share, most.get(name, 0.0))
    return sorted((name for name in most if most[name] > 0), key=lambda n: -most[n])[:MOST]


def _alt(found: dict[str, dict[str, float]]) -> str:
    told = []
    for method, shares in found.items():
        first = [name for name, share in shares.items() if share > 0][:3]
        told.append(f"{method}: {', '.join(first)}" if first else f"{method}: nothing to tell")
    return f"The most important hyper-parameters by {'; by '.join(told)}."
