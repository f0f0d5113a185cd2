"""Reads ONNX files as data, and runs them with onnxruntime."""
