"""Pure code of the model: arrays in, arrays out.

Read in this order: `tokens.py` and `encoders.py` (texts to token ids), `families.py` and `ngrams.py` (what a linear
model reads of a text), `family_training.py` and `network.py` (its fit and its network), `training.py` (all
networks), `calibration.py`, `metrics.py`, `promotion.py`, `stopping.py`, `label_errors.py`. `model_files.py` and
`stored_model.py` write and read a model's folder, the latter without torch. `distillation.py` makes static vectors from
a sentence encoder.
"""
