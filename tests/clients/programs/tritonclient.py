# /// script
# dependencies = ["tritonclient[http,grpc]==2.73.0"]
# tool.llmos.asks = "infer over HTTP and gRPC: its simple_infer clients"
# ///
import os

import numpy as np
import tritonclient.grpc as grpcclient
import tritonclient.http as httpclient

headers = {"authorization": f"Bearer {os.environ['LLMOS_API_KEY']}"}
input_data = np.ones((1, 4), np.float32)
for triton, url in ((httpclient, os.environ["LLMOS_URL"]), (grpcclient, os.environ["LLMOS_GRPC"])):
    client = triton.InferenceServerClient(url=url.removeprefix("http://"))
    assert client.is_server_live()
    assert client.is_model_ready(os.environ["TENSOR_MODEL"], headers=dict(headers))
    inputs = [triton.InferInput("x", [1, 4], "FP32")]
    inputs[0].set_data_from_numpy(input_data)
    outputs = [triton.InferRequestedOutput("y")]
    results = client.infer(os.environ["TENSOR_MODEL"], inputs, outputs=outputs, headers=dict(headers))
    print(triton.__name__.rpartition(".")[2], results.as_numpy("y").tolist())
