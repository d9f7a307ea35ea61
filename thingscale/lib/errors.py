"""The error that a caller's mistake raises, with its code in docs/contract.md."""


class ContractError(Exception):
    """`code` as in docs/contract.md, `detail` one sentence that says what to do."""

    def __init__(self, code: str, detail: str) -> None:
        super().__init__(detail)
        self.code = code
        self.detail = detail
