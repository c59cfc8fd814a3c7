# An image for the web server and workers; commands: `eacps serve`, `eacps serve --web-only`, `eacps worker`.
FROM python:3.11-slim

WORKDIR /app
COPY requirements.txt requirements-no-deps.txt ./
# The default PyTorch wheel includes CUDA, so the image runs on GPUs and CPUs.
RUN pip install --no-cache-dir -r requirements.txt \
    && pip install --no-cache-dir --no-deps -r requirements-no-deps.txt

# `--build-arg FACE_RUNTIME=gpu` also runs face models on GPUs. Both runtimes install to the same
# folder, so uninstall the other one first. CUDA 13 and cuDNN 9 are those of PyTorch.
ARG FACE_RUNTIME=cpu
RUN if [ "$FACE_RUNTIME" = gpu ]; then \
      pip uninstall --yes onnxruntime \
      && pip install --no-cache-dir "onnxruntime-gpu[cuda,cudnn]==1.31.1" \
      && python -c "import onnxruntime as o; assert 'CUDAExecutionProvider' in o.get_available_providers()"; \
    fi

COPY pyproject.toml README.md LICENSE model.py _wsgi.py ./
COPY backend backend
RUN pip install --no-cache-dir --no-deps --editable .

# A volume for the database, artifacts, locks and the URL secret.
RUN useradd --create-home eacps && mkdir /data && chown eacps /data
USER eacps
ENV EACPS_DATA_DIR=/data EACPS_HOST=0.0.0.0 EACPS_LOG_FORMAT=json PYTHONUNBUFFERED=1
# Who can reach a container is decided by its network and published ports, so it starts without a
# password, with a warning. Set EACPS_BASIC_AUTH_USER and EACPS_BASIC_AUTH_PASS if others reach it.
ENV EACPS_ALLOW_NO_PASSWORD=true
VOLUME /data
EXPOSE 9090
HEALTHCHECK --interval=30s --timeout=3s --start-period=20s \
    CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:9090/health', timeout=2)"]

CMD ["eacps", "serve"]
