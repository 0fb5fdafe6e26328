"""The container that a registered model is served in, and which folder of the artifact it is given.

What a container wants is read in Google's documentation and samples, and tried on no Vertex AI:
- an image of Vertex's own: the folder with `saved_model.pb`, and nothing else
  (https://cloud.google.com/vertex-ai/docs/training/exporting-model-artifacts);
- `tensorflow/serving`: the folder above it, the model server as the command, its routes, and a port
  (get_started_with_tf_serving.ipynb in https://github.com/GoogleCloudPlatform/vertex-ai-samples). The server would look
  for other versions once a second if nobody told it not to.
"""

from google.cloud.aiplatform_v1 import types

from beam_jobs.vertex.artifact import NUMBER
from beam_jobs.workspace import storage
from configs.vertex import ServingContainer

MODEL_NAME = "model"
PORT = 8080
_GRPC_PORT = 8500  # which only the server's own health depends on
_COMMAND = ("/usr/bin/tensorflow_model_server",)
_ARGS = (
    f"--port={_GRPC_PORT}",
    "--rest_api_port={port}",
    f"--model_name={MODEL_NAME}",
    "--model_base_path=$(AIP_STORAGE_URI)",
    "--file_system_poll_wait_seconds=31540000",
)


def container_spec(serving: ServingContainer) -> types.ModelContainerSpec:
    """What Vertex is told of the container."""
    environment = [types.EnvVar(name=name, value=value) for name, value in serving.environment.items()]
    spec = types.ModelContainerSpec(
        image_uri=serving.image, command=serving.command, args=serving.args, env=environment
    )
    if serving.is_vertex_image:
        return spec
    port = serving.port or PORT
    if not serving.command and not serving.args:
        spec.command, spec.args = _COMMAND, [arg.format(port=port) for arg in _ARGS]
    spec.ports = [types.Port(container_port=port)]
    spec.predict_route = serving.predict_route or f"/v1/models/{MODEL_NAME}:predict"
    spec.health_route = serving.health_route or f"/v1/models/{MODEL_NAME}"
    return spec


def artifact_uri(serving: ServingContainer, folder: str) -> str:
    """The folder that the container is given.

    Args:
        folder: whose sub-folder `1` has the model.
    """
    return storage.join(folder, NUMBER) if serving.is_vertex_image else folder
