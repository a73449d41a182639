"""`python -m convcore`: the command `convcore`."""

from .cli import main

raise SystemExit(main())
