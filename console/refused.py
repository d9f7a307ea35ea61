"""What an action refused, for a form: the field, and the sentence beside it."""

import re

from thingscale.lib.errors import ContractError


def field_and_sentence(refused: ContractError) -> tuple[str, str]:
    """The field is "" if the sentence is about none."""
    named = re.fullmatch(r"([a-z_0-9]+): (.*)", refused.detail, re.DOTALL)
    return (named[1], named[2]) if named and refused.code == "BAD_PARAMETER" else ("", refused.detail)
