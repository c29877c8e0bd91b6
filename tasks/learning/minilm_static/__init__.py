"""The default encoder's artefact: MiniLM's knowledge as one int8 vector per WordPiece token. Never downloaded.

`vectors.safetensors` holds `vectors` (29,525 x 256, int8) and `scale` (one float32): row i times the scale is
the vector of token i of `tokenizer.json`. `manifest.json` says where both come from and what their bytes hash to;
`build.py` makes all three. Licence: Apache-2.0, see NOTICE.
"""
