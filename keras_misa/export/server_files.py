"""What TensorFlow Serving wants beside the models: which there are, how to batch, and what to warm up with."""

import pathlib

from keras_misa._files import write_text

MARK = "# Written by keras-misa export. Without this line the file is yours and stays as it is.\n"
PLACE = "/models"  # where the server sees the folder
WARM_UP_ROWS = (1, 8, 64)
WARM_UP_STEPS = 12
BATCHING = """\
# What the server gathers while it is busy is answered together.
max_batch_size { value: 64 }
batch_timeout_micros { value: 1000 }
max_enqueued_batches { value: 1000 }
num_batch_threads { value: 2 }  # as many as the server has CPU cores, or 1 a GPU
pad_variable_length_inputs: true  # requests of different lengths
"""


def write_server_files(out):
    """Write `models.config` and `batching.config` into the folder of the models.

    Args:
        out: folder that holds a folder for each model.
    """
    out = pathlib.Path(out)
    names = sorted(path.name for path in out.iterdir() if _has_version(path))
    entries = [
        f'  config {{ name: "{name}" base_path: "{PLACE}/{name}" model_platform: "tensorflow" }}\n' for name in names
    ]
    for name, content in (
        ("models.config", f"model_config_list {{\n{''.join(entries)}}}\n"),
        ("batching.config", BATCHING),
    ):
        path = out / name
        if not path.exists() or path.read_text(encoding="utf-8").startswith(MARK):
            write_text(path, MARK + content)


def _has_version(path):
    return path.is_dir() and any((child / "saved_model.pb").exists() for child in path.iterdir())


def write_warm_up(folder, module, description):
    """Write requests that the server answers before it takes a model into service.

    They are made up (noise and ids): none of the training data leaves with a model.

    Args:
        folder: of the SavedModel.
        module: its `ServingModule`.
        description: its `signature.json`.
    """
    import tensorflow as tf
    from tensorflow_serving.apis import predict_pb2, prediction_log_pb2

    (folder / "assets.extra").mkdir()
    path = folder / "assets.extra" / "tf_serving_warmup_requests"
    with tf.io.TFRecordWriter(str(path)) as writer:
        for signature in module.functions:
            for rows in WARM_UP_ROWS:
                request = predict_pb2.PredictRequest()
                request.model_spec.name = description["name"]
                request.model_spec.signature_name = signature
                for key, value in module.sample(signature, rows, WARM_UP_STEPS).items():
                    request.inputs[key].CopyFrom(tf.make_tensor_proto(value))
                log = prediction_log_pb2.PredictLog(request=request)
                writer.write(prediction_log_pb2.PredictionLog(predict_log=log).SerializeToString())
