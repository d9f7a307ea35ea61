"""How far a list goes on one page."""

PAGE = 50
