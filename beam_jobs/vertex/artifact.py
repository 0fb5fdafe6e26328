"""The SavedModel as it is registered: the run's own, whose `serving_default` takes what JSON can carry.

Servers of TensorFlow call `serving_default`, and Vertex AI hands them JSON, which has no NaN, no exact int64 and no
bytes. So the copy's name `serving_default` stands for the signature `serving_text`; weights and functions are the same
bytes, and the raw signature goes on as `serving_features`. It lies in a numbered folder, as TensorFlow Serving wants.
"""

import os
import shutil
import tempfile
from typing import TYPE_CHECKING, Any

from beam_jobs.workspace import storage
from configs.errors import RefusedError

if TYPE_CHECKING:
    from tensorflow.core.protobuf import saved_model_pb2  # its import takes seconds

FOLDER, NUMBER = "vertex_model", "1"
SERVING, TEXT, FEATURES = "serving_default", "serving_text", "serving_features"
_GRAPH = "saved_model.pb"
_NOT_COPIED = "fingerprint.pb"  # of the file as it was, and optional


def place_artifact(model_path: str, run_path: str, model_version: str, signature: str = TEXT) -> str:
    """Copies a SavedModel to where Vertex reads it from; one that is there already is that of the same version.

    Args:
        model_path: its folder.
        run_path: of the run directory that the copy goes to.
        signature: that the copy's `serving_default` is.

    Returns:
        The folder whose sub-folder `1` has the model.

    Raises:
        RefusedError: the model has no such signature.
    """
    folder = storage.join(run_path, FOLDER, model_version)
    target = storage.join(folder, NUMBER)
    if storage.exists(storage.join(target, _GRAPH)):  # which comes last
        return folder
    from transforms.files import upload_folder

    with storage.local_copy(model_path) as source, tempfile.TemporaryDirectory(prefix="foretable-") as temporary:
        copy = os.path.join(temporary, NUMBER)
        shutil.copytree(source, copy, ignore=shutil.ignore_patterns(_NOT_COPIED))
        _edit(copy, model_path, signature)
        upload_folder(copy, target, last=_GRAPH)
    return folder


def _edit(folder: str, model_path: str, signature: str) -> None:
    if signature == SERVING:
        return
    from tensorflow.core.protobuf import saved_model_pb2

    path = os.path.join(folder, _GRAPH)
    with open(path, "rb") as file:
        saved_model = saved_model_pb2.SavedModel.FromString(file.read())
    try:
        serve_by_default(saved_model, signature)
    except KeyError:
        expected = "train it again with this version" if signature == TEXT else "check model.signature"
        raise RefusedError(f"{model_path}: the model has no signature {signature!r}; {expected}") from None
    with open(path, "wb") as file:
        file.write(saved_model.SerializeToString(deterministic=True))


def serve_by_default(saved_model: "saved_model_pb2.SavedModel", signature: str) -> None:
    """Lets `serving_default` stand for another signature; the one that it stood for is then `serving_features`.

    Both of a SavedModel's lists of signatures are changed: that of TF Serving, and that of `tf.saved_model.load`.

    Raises:
        KeyError: there is no such signature.
    """
    for graph in saved_model.meta_graphs:
        signatures = graph.signature_def
        if signature not in signatures:
            raise KeyError(signature)
        if SERVING in signatures:
            signatures[FEATURES].CopyFrom(signatures[SERVING])
        signatures[SERVING].CopyFrom(signatures[signature])
        _rename_nodes(graph.object_graph_def, signature)


def _rename_nodes(objects: Any, signature: str) -> None:
    """Changes the map of signatures among the saved objects, where there is one: a model of TF 1 has none."""
    references = objects.nodes[0].children if objects.nodes else ()
    for reference in references:
        if reference.local_name != "signatures":
            continue
        children = objects.nodes[reference.node_id].children
        nodes = {child.local_name: child.node_id for child in children}
        wanted = {SERVING: nodes[signature]} | ({FEATURES: nodes[SERVING]} if SERVING in nodes else {})
        for child in children:
            child.node_id = wanted.pop(child.local_name, child.node_id)
        for name, node_id in wanted.items():
            children.add(local_name=name, node_id=node_id)
