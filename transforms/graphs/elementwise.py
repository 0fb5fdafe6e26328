"""TensorFlow's operations that work value by value, by whether a value's bits depend on where in a batch it lies.

Exact operations are correctly rounded, or work on integers and strings. The others are computed several values at once
in the middle of a batch and one by one at its end, by two ways that may differ in the last bit, but for integers.
"""

_ARITHMETIC = {"Abs", "Add", "AddN", "AddV2", "Div", "DivNoNan", "Mul", "MulNoNan", "Neg", "RealDiv", "Sqrt", "Square"}
_MORE_ARITHMETIC = {"FloorDiv", "FloorMod", "SquaredDifference", "Sub", "TruncateDiv", "TruncateMod"}
_ROUNDING = {"Ceil", "Floor", "Rint", "Round"}
_COMPARISONS = {
    "Bucketize",
    "Equal",
    "Greater",
    "GreaterEqual",
    "IsFinite",
    "IsInf",
    "IsNan",
    "Less",
    "LessEqual",
    "NotEqual",
}
_LOGIC = {"BitwiseAnd", "BitwiseOr", "BitwiseXor", "LogicalAnd", "LogicalNot", "LogicalOr", "SelectV2"}
_FILLING = {"OnesLike", "ZerosLike"}
_STRINGS = {"AsString", "StringJoin", "StringLength", "StringLower", "StringStrip", "StringToNumber", "StringUpper"}
_PATTERNS = {"RegexFullMatch", "RegexReplace", "StaticRegexFullMatch", "StaticRegexReplace", "Substr"}
_HASHES = {"StringToHashBucket", "StringToHashBucketFast", "StringToHashBucketStrong"}

EXACT = frozenset().union(
    *(_ARITHMETIC, _MORE_ARITHMETIC, _ROUNDING, _COMPARISONS, _LOGIC, _FILLING, _STRINGS, _PATTERNS, _HASHES)
)

# Of zero and its negative, these choose one in the middle and the other at the end.
_BOUNDS = {"ClipByValue", "Maximum", "Minimum", "Relu", "Relu6", "Sign"}
_EXPONENTIALS = {"Exp", "Expm1", "Inv", "Log", "Log1p", "Pow", "Reciprocal", "Rsqrt", "Xdivy", "Xlog1py", "Xlogy"}
_ACTIVATIONS = {"Elu", "LeakyRelu", "Selu", "Sigmoid", "Softplus", "Softsign", "Tanh"}
_TRIGONOMETRY = {"Acos", "Acosh", "Asin", "Asinh", "Atan", "Atan2", "Atanh", "Cos", "Cosh", "Sin", "Sinh", "Tan"}
_SPECIAL = {"Digamma", "Erf", "Erfc", "Erfinv", "Lgamma", "Ndtri"}

INEXACT = frozenset().union(_BOUNDS, _EXPONENTIALS, _ACTIVATIONS, _TRIGONOMETRY, _SPECIAL)
