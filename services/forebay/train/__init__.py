"""Trains the models of the predictor; needs the packages of `make dev`.

`tables` and `data` read examples, `folds` splits them by prompt, `family` says what a family of models is: one function
from examples to an ONNX file with its metadata (`run`), in the module that `FAMILIES` names. `candidate` trains one,
scores it beside baselines and puts it into the registry; `report` draws what came of it.

`measuring` asks a real model behind any OpenAI endpoint how long its answers are; `measured` reads what the real LLM
that runs here answered (`samples/lengths_smollm2.parquet`).
"""
