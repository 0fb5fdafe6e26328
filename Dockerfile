# One image for Dataflow's workers, for training and for pipeline steps: Beam's SDK image of one Python, the versions of
# requirements.lock, and this package. `make image IMAGE=...` builds it and tags it with the versions that it has.
ARG PYTHON=3.11
ARG BEAM=2.77.0
FROM apache/beam_python${PYTHON}_sdk:${BEAM}
ARG BEAM

WORKDIR /opt/foretable

# What the package needs changes less often than the package does, so its layer comes first. The lock is a constraint:
# what it has for development stays out.
COPY setup.py pyproject.toml requirements.lock ./
COPY beam_jobs/__init__.py beam_jobs/
RUN pip install --no-cache-dir --constraint requirements.lock . \
 && pip uninstall --yes foretable

COPY configs configs
COPY transforms transforms
COPY models models
COPY beam_jobs beam_jobs
RUN pip install --no-cache-dir --no-deps . \
 && pip check \
 && python -c "import apache_beam, beam_jobs; assert apache_beam.__version__ == '${BEAM}'"

# Beam's base image starts /opt/apache/beam/boot, which Dataflow needs. A training job or a step names its own command,
# such as `python -m models.trainer`.
