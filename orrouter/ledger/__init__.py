"""The ledger: what every account has spent, holds and may still spend, kept exactly.

Law: `rules` is the arithmetic, the stores keep it, `open` alone names them. Nothing here prices a request.
"""
