"""From a law and what somebody has to the model to train.

::

    resources   what is there, in any unit: FLOPs, GPU-hours, money, days, hours of audio
    source      a law to be asked, fitted or published
    optima      with few unique tokens, with tokens to serve; the sizes nearby, and what over-training costs
    request     the budget and the size that follow from what was given
    ladder      the concrete shape, its run by the recipe, what that takes of a machine
    answer      the recommendation
    comparison  several beside each other: of budgets, of given models, by other laws
    text        all of it in words

>>> print(recommend("hoffmann2022", flops=1e21).binds)
compute
"""

from __future__ import annotations

from isoflop.recommendation.answer import Recommendation, Status, recommend

__all__ = ["Recommendation", "Status", "recommend"]
