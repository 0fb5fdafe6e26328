"""Raw features, the label, and the transforms declared on them, with the names that transformed features get.

Both sides read these names from here: `transforms` to build the preprocessing function, `models` to build the network.
"""

import itertools
from typing import Annotated, Any, Literal

import pydantic

from configs.base import Node, kind_shorthand

ColumnType = Literal["string", "float", "int"]

# How a missing value travels into the graph: `transforms` puts it there, and the graph and the exporter look for it.
MISSING_IN_GRAPH: dict[ColumnType, Any] = {"string": b"", "float": float("nan"), "int": -(2**63)}


class OneHot(Node):
    """The network sees a category as one of n."""

    kind: Literal["one_hot"]


class Embedding(Node):
    """The network learns a vector for each category.

    Attributes:
        dimensions: length of the vector; by default about the fourth root of the number of categories, times 2.
    """

    kind: Literal["embedding"]
    dimensions: int | None = pydantic.Field(default=None, ge=1)


Encoding = Annotated[
    Annotated[OneHot | Embedding, pydantic.Field(discriminator="kind")], pydantic.BeforeValidator(kind_shorthand)
]


class Categorical(Node):
    """A transform whose output is a category id. Without an encoding, few categories are one-hot and many embedded."""

    encoding: Encoding | None = None


class Vocabulary(Categorical):
    """Ids by falling frequency in the train split; unknown words are hashed into the `oov_buckets` ids after it."""

    kind: Literal["vocabulary"]
    oov_buckets: int = pydantic.Field(default=1, ge=1)
    min_frequency: int = pydantic.Field(default=1, ge=1)
    top_k: int | None = pydantic.Field(default=None, ge=1)


class QuantileBuckets(Categorical):
    """Bucket ids, by edges at the train split's quantiles."""

    kind: Literal["quantile_buckets"]
    count: int = pydantic.Field(ge=2)


class Buckets(Categorical):
    """Bucket ids, by given edges: bucket i holds `edges[i-1] <= value < edges[i]`."""

    kind: Literal["buckets"]
    edges: tuple[float, ...] = pydantic.Field(min_length=1)

    @pydantic.field_validator("edges")
    @classmethod
    def _increasing(cls, edges: tuple[float, ...]) -> tuple[float, ...]:
        if any(a >= b for a, b in itertools.pairwise(edges)):
            raise ValueError("edges must be strictly increasing")
        return edges


class ZScore(Node):
    """Subtracts the train split's mean and divides by its standard deviation."""

    kind: Literal["z_score"]


class Scale01(Node):
    """Scales the train split's range to 0-1."""

    kind: Literal["scale_0_1"]


class MinMax(Node):
    """Scales the train split's range to `[output_min, output_max]`."""

    kind: Literal["min_max"]
    output_min: float = 0.0
    output_max: float = 1.0


class Log1p(Node):
    """log(1 + x), of x no lower than 0."""

    kind: Literal["log1p"]


class Identity(Node):
    """The value as it is, as a float."""

    kind: Literal["identity"]


FeatureTransform = Annotated[
    Annotated[
        Vocabulary | QuantileBuckets | Buckets | ZScore | Scale01 | MinMax | Log1p | Identity,
        pydantic.Field(discriminator="kind"),
    ],
    pydantic.BeforeValidator(kind_shorthand),
]

_DEFAULT_TRANSFORMS: dict[str, FeatureTransform] = {
    "string": Vocabulary(kind="vocabulary"),
    "float": ZScore(kind="z_score"),
    "int": ZScore(kind="z_score"),
}


class Feature(Node):
    """One raw feature.

    Attributes:
        missing: takes a missing value's place, inside the graph. Without it the feature may not be missing.
        transforms: what the network sees; by default a vocabulary for strings and a z-score for numbers.
        description: goes to the prediction table's column.
    """

    type: ColumnType
    missing: str | int | float | None = None
    transforms: tuple[FeatureTransform, ...] = pydantic.Field(default=(), validate_default=True)
    description: str = ""

    @pydantic.model_validator(mode="after")
    def _agrees(self) -> "Feature":
        kinds = [transform.kind for transform in self.transforms]
        if len(set(kinds)) < len(kinds):
            raise ValueError(f"each kind of transform at most once, got {kinds}")
        for kind in kinds:
            if self.type == "string" and kind != "vocabulary":
                raise ValueError(f"a string feature takes the vocabulary transform, got {kind!r}")
            if self.type == "float" and kind == "vocabulary":
                raise ValueError("a float feature takes no vocabulary: declare it int or string, or use buckets")
        if self.missing is not None:
            self._check_missing(self.missing)
        return self

    def _check_missing(self, value: str | int | float) -> None:
        if self.type == "string" and (not isinstance(value, str) or value == ""):
            raise ValueError(f"missing must be a non-empty string for a string feature, got {value!r}")
        if self.type == "int" and not isinstance(value, int):
            raise ValueError(f"missing must be a whole number for an int feature, got {value!r}")
        if self.type == "float" and isinstance(value, str):
            raise ValueError(f"missing must be a number for a float feature, got {value!r}")

    @property
    def may_be_missing(self) -> bool:
        """Whether rows without this feature are good rows."""
        return self.missing is not None

    @property
    def effective_transforms(self) -> tuple[FeatureTransform, ...]:
        """The declared transforms, or the type's default."""
        return self.transforms or (_DEFAULT_TRANSFORMS[self.type],)


class HashedCross(Categorical):
    """Combinations of features, hashed into buckets."""

    kind: Literal["hashed"]
    features: tuple[str, ...] = pydantic.Field(min_length=2)
    buckets: int = pydantic.Field(ge=2)

    @property
    def name(self) -> str:
        """Name of the transformed feature."""
        return "_x_".join(self.features)


class VocabularyCross(Categorical):
    """Combinations of features, with a vocabulary of the ones in the train split."""

    kind: Literal["vocabulary"]
    features: tuple[str, ...] = pydantic.Field(min_length=2)
    oov_buckets: int = pydantic.Field(default=1, ge=1)
    min_frequency: int = pydantic.Field(default=1, ge=1)
    top_k: int | None = pydantic.Field(default=None, ge=1)

    @property
    def name(self) -> str:
        """Name of the transformed feature."""
        return "_x_".join(self.features)


Cross = Annotated[HashedCross | VocabularyCross, pydantic.Field(discriminator="kind")]


class Label(Node):
    """What is predicted.

    Attributes:
        expression: SQL over the columns read that makes the label (DuckDB's dialect); without it the label is a column.
    """

    name: str
    type: ColumnType = "float"
    expression: str | None = None
    description: str = ""


def transformed_name(feature: str, transform: FeatureTransform) -> str:
    """Name of the transformed feature that `transform` makes of `feature`."""
    return f"{feature}_{transform.kind}"


def declared_encodings(features: dict[str, Feature], crosses: tuple[Any, ...]) -> dict[str, OneHot | Embedding]:
    """Encodings that the job file asks for, by transformed feature."""
    outputs: list[tuple[str, Any]] = [
        (transformed_name(name, transform), transform)
        for name, feature in features.items()
        for transform in feature.effective_transforms
    ]
    outputs += [(cross.name, cross) for cross in crosses]
    return {name: t.encoding for name, t in outputs if isinstance(t, Categorical) and t.encoding is not None}
