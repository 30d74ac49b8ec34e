"""ONNX Runtime: a graph of one RNN, GRU or LSTM node, forward alone."""

import numpy as np
import onnxruntime
from onnx import TensorProto, helper, numpy_helper
from protocol import Unsupported, lengths, serve, threads

GATES = {"RNN": 1, "GRU": 3, "LSTM": 4}


def prepare(point):
    kind = point["module"]
    if not point["forward_only"]:
        raise Unsupported("forward only")
    if kind not in GATES or point["proj_size"] or point["num_layers"] > 1 or point["dtype"] != "float32":
        raise Unsupported("not one float32 node")
    T, N, I, H = (point[k] for k in ("seq_len", "batch", "input_size", "hidden_size"))
    directions, rows = 2 if point["bidirectional"] else 1, GATES[kind] * H
    rng = np.random.default_rng(0)

    def uniform(name, *shape):
        values = rng.uniform(-(H**-0.5), H**-0.5, (directions, *shape))
        return numpy_helper.from_array(values.astype(np.float32), name)

    constants = [uniform("W", rows, I), uniform("R", rows, H), uniform("B", 2 * rows)]
    inputs = ["x", "W", "R", "B"]
    if point["packed"]:
        constants.append(numpy_helper.from_array(np.array(lengths(point), np.int32), "lengths"))
        inputs.append("lengths")
    options = {"hidden_size": H, "direction": "bidirectional" if directions == 2 else "forward"}
    if kind == "GRU":
        options["linear_before_reset"] = 1  # torch's equations
    node = helper.make_node(kind, inputs, ["y"], **options)
    x_info = helper.make_tensor_value_info("x", TensorProto.FLOAT, [T, N, I])
    y_info = helper.make_tensor_value_info("y", TensorProto.FLOAT, [T, directions, N, H])
    graph = helper.make_graph([node], "layer", [x_info], [y_info], constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)

    session_options = onnxruntime.SessionOptions()
    session_options.intra_op_num_threads = threads()
    session_options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(model.SerializeToString(), session_options, ["CPUExecutionProvider"])
    feed = {"x": rng.standard_normal((T, N, I)).astype(np.float32)}
    return lambda: session.run(None, feed)


serve(onnxruntime.__version__, prepare)
