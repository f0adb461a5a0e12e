"""Dynamics over checkpoints: jumps, early warnings, curves of growth, units that do not settle."""

from lmri.information.dynamics.change_points import ChangePoints, change_points
from lmri.information.dynamics.early_warning import early_warning
from lmri.information.dynamics.fits import CurveFit
from lmri.information.dynamics.follow import follow
from lmri.information.dynamics.massive_curve import fit_massive_curve, peak_step
from lmri.information.dynamics.sensitive import sensitive_units
from lmri.information.dynamics.series import series
from lmri.information.dynamics.sparsity_law import compare_sparsity_laws, fit_sparsity_law

__all__ = [
    "ChangePoints",
    "CurveFit",
    "change_points",
    "compare_sparsity_laws",
    "early_warning",
    "fit_massive_curve",
    "fit_sparsity_law",
    "follow",
    "peak_step",
    "sensitive_units",
    "series",
]
