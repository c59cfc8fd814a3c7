"""Checks for plug-ins: what the rest of the product relies on, run against your own class.

Each takes a name as the settings do, such as `my_judges.py:Strict`, and raises ContractError with
one sentence that says what is not as it must be. In a test:

    from eacps.testing import check_scorer

    def test_it_keeps_the_contract():
        check_scorer("sharpness.py:Sharpness")
"""

from eacps.testing.contract import ContractError
from eacps.testing.editors import check_editor
from eacps.testing.faces import check_face_engine
from eacps.testing.scorers import check_scorer
from eacps.testing.strategies import check_strategy
from eacps.testing.verifiers import check_verifier

__all__ = [
    "ContractError",
    "check_editor",
    "check_face_engine",
    "check_scorer",
    "check_strategy",
    "check_verifier",
]
