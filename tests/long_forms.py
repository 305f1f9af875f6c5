"""How long slow tests try: `make test-long` has their long forms, `make test-slow` shorter ones of the same."""

from __future__ import annotations

import os

LONG = os.environ.get("SPQUANT_LONG") == "1"
