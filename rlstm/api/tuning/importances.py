"""Which settings mattered, by Optuna's PED-ANOVA (Watanabe et al. 2023, arXiv:2304.10255); it needs numpy alone."""

from __future__ import annotations

import warnings

from rlstm.core.errors import missing_extra

try:
    import optuna
    from optuna.importance import PedAnovaImportanceEvaluator, get_param_importances
    from optuna.trial import TrialState
except ImportError as error:
    raise missing_extra("A search for settings", "optuna", "tune") from error

_FEWEST = 6  # Complete trials from which it is told.
_BEST = 5  # It compares so many of the best with all, as its authors advise, or a tenth of them if these are more.


def importances_of(study: optuna.Study) -> dict[str, float]:
    """Return how far the best complete trials are from all in each setting, the largest first; they sum up to 1.

    It is empty for too few trials. Pruned and failed ones don't count.
    """
    done = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    if len(done) < _FEWEST:
        return {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Of Optuna: that this is an estimate.
        quantile = min(0.5, max(0.1, _BEST / len(done)))
        found = get_param_importances(study, evaluator=PedAnovaImportanceEvaluator(target_quantile=quantile))
    return dict(sorted(found.items(), key=lambda item: (-item[1], item[0])))
