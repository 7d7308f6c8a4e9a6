"""From a finished run to a source folder: ONNX, INT8, golden cases, provenance."""
