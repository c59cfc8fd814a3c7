"""Contract checks for plug-ins, for use in your own tests.

Each check takes a name as in the settings, such as `my_judges.py:Strict`, and raises ContractError
with a sentence that says what is wrong. In a test:

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
