"""Pure code of the model: arrays in, arrays out.

Read in this order: `tokens.py` and `encoders.py` (texts to token ids), `training.py` (the network and its fit),
`calibration.py`, `metrics.py`, `promotion.py`, `stopping.py`, `label_errors.py`. `model_files.py` and `stored_model.py`
write and read a model's folder, the latter without torch. `distillation.py` makes static vectors from a sentence
encoder.
"""
