"""Names of dtypes in torch."""

TORCH = {"f32": "float32", "f64": "float64", "bf16": "bfloat16", "f16": "float16", "i64": "int64",
         "i32": "int32", "i16": "int16", "i8": "int8", "u8": "uint8", "bool": "bool"}  # fmt: skip
