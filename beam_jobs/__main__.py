"""`python -m beam_jobs` is the command `foretable`."""

from beam_jobs.cli import main

main()
