"""Pure: arrays in, arrays out. Encoders, the classifier, its training, its figures."""
