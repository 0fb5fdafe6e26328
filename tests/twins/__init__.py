"""Twins of Google Cloud on loopback: real servers that the real clients talk to, in place of the cloud.

`make twins` makes their environment, `.venv-twins`, for which it needs Python 3.13; the environment variable
`FORETABLE_TWINS` names another folder with `bin/` and `home/`. Without one, tests that need a twin are skipped with the
reason, or fail where `REQUIRE_TWINS=1`. The fixtures are in `twins.fixtures`.
"""
