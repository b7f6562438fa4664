"""The fields of windows: those that are cut, those that are repeated, and those that are made besides."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Self

import jax
import numpy as np

from datarax_core.errors import SpecError
from datarax_core.records import ElementSpec, Ragged, dtype_title, named_fields, nested_fields
from datarax_core.sources import DataSourceModule, field_struct
from datarax_views.sequences.options import require_padded

from .config import WindowViewConfig

_TARGETS: Final = "targets"
_MASK: Final = "mask"


@dataclass(frozen=True)
class WindowFields:
    """The fields of the records of a view of windows, by dotted name; hashable, for compiled programs."""

    length: int
    cut: tuple[str, ...]
    """Fields of which windows are cut."""

    kept: tuple[str, ...]
    """Fields that are served as they are, for windows inside records: those of the record that a window begins in."""

    is_inside: bool
    """Whether windows are cut inside records, of the first axis of the fields, or of records that follow one another."""

    target_of: str | None
    """The field that targets are taken of."""

    target_field: str | None
    mask_field: str | None
    padding: tuple[tuple[str, Any], ...]
    """What completes the windows of each field."""

    is_named: bool
    """Whether records are a dict of fields; else a tuple, or one array."""

    @classmethod
    def of(cls, config: WindowViewConfig, parent: DataSourceModule, title: str) -> Self:
        """Return the fields that a config makes of the records of a source.

        Args:
            config: Config of the view.
            parent: The source.
            title: The view, in errors.

        Raises:
            SpecError: A field is missing or cannot be cut, or one that is made has its name.
        """
        spec = parent.element_spec()
        structs = named_fields(spec)
        given = (config.field,) if isinstance(config.field, str) else config.field
        for name in given or ():
            field_struct(parent, name)
        is_inside = _is_inside(config, structs, given)
        cut = given or (_varying(structs) if is_inside else tuple(structs))
        if not cut:
            raise SpecError(
                f"{title} cuts inside records, none of whose fields varies in length; name the field to cut, field="
            )
        for name in cut:
            _require_cuttable(structs[name], name, title, is_inside=is_inside)
        if is_inside:
            _require_alike({name: structs[name].shape[0] for name in cut}, title)
        kept = tuple(name for name in structs if name not in cut) if is_inside else ()
        makes = {
            "target_field": (config.target_field or _TARGETS) if config.shift else None,
            "mask_field": (config.mask_field or _MASK) if config.remainder == "pad" else None,
        }
        _require_free(makes, (*cut, *kept), title)
        is_named = isinstance(spec, Mapping)
        if not is_named and (any(makes.values()) or len(cut) + len(kept) < len(structs)):
            raise SpecError(
                f"{title} makes dicts of fields, and the records of {parent.title} have none by name; give them names, such as "
                "{'tokens': array}"
            )
        target_of = _target_of(config, cut, title)
        padding = _padding(config, {name: structs[name] for name in cut}, title)
        return cls(config.length, cut, kept, is_inside, target_of, **makes, padding=padding, is_named=is_named)

    def spec(self, spec: ElementSpec) -> ElementSpec:
        """Return the element spec of the windows of records with this spec."""
        structs = named_fields(spec)
        fields = {name: structs[name] for name in structs if name in self.kept}
        fields |= {name: self._window(structs[name]) for name in structs if name in self.cut}
        if self.target_field is not None and self.target_of is not None:
            fields[self.target_field] = self._window(structs[self.target_of])
        if self.mask_field is not None:
            fields[self.mask_field] = jax.ShapeDtypeStruct((self.length,), np.dtype(np.bool_))
        return self.arranged({name: fields[name] for name in (*structs, *fields) if name in fields})

    def arranged(self, fields: Mapping[str, Any]) -> Any:
        """Return fields by dotted name in the structure of a record."""
        if self.is_named:
            return nested_fields(fields) if any("." in name for name in fields) else dict(fields)
        return tuple(fields.values()) if len(self.cut) + len(self.kept) > 1 else next(iter(fields.values()))

    def pad_value(self, field: str) -> Any:
        """Return what completes the windows of a field."""
        return dict(self.padding)[field]

    def _window(self, struct: jax.ShapeDtypeStruct) -> jax.ShapeDtypeStruct:
        element = struct.shape[1:] if self.is_inside else struct.shape
        return jax.ShapeDtypeStruct((self.length, *element), struct.dtype)


def _is_inside(
    config: WindowViewConfig, structs: Mapping[str, jax.ShapeDtypeStruct], given: tuple[str, ...] | None
) -> bool:
    if config.inside is not None or config.cross:
        return config.inside is not False
    return any(structs[name].shape[:1] == (None,) for name in given or structs)


def _varying(structs: Mapping[str, jax.ShapeDtypeStruct]) -> tuple[str, ...]:
    """Return the names of the fields of which the first axis varies, and no other."""
    return tuple(
        name for name, struct in structs.items() if struct.shape[:1] == (None,) and None not in struct.shape[1:]
    )


def _require_cuttable(struct: jax.ShapeDtypeStruct, name: str, title: str, *, is_inside: bool) -> None:
    text = f"field {name!r} of {title} is {dtype_title(struct.dtype)}{list(struct.shape)}"
    if not is_inside and None in struct.shape:
        raise SpecError(
            f"{text}, and windows of records that follow one another are cut of fields of one shape; cut inside records, "
            "inside=True, or name the fields, field="
        )
    if is_inside and not struct.shape:
        raise SpecError(f"{text}, one value a record, and windows inside records are cut of fields with an axis")
    if is_inside and None in struct.shape[1:]:
        raise SpecError(f"{text}, and windows are cut of fields of which the first axis alone varies")


def _require_alike(sizes: Mapping[str, int | None], title: str) -> None:
    (first, size), *others = sizes.items()
    for name, other in others:
        if other != size:
            found = ["varying lengths" if one is None else f"length {one}" for one in (size, other)]
            raise SpecError(
                f"fields {first!r} and {name!r} of {title} have {found[0]} and {found[1]}, and are cut together; name "
                "fields of equal length, field="
            )


def _require_free(makes: Mapping[str, str | None], names: tuple[str, ...], title: str) -> None:
    made = [name for name in makes.values() if name is not None]
    for option, name in makes.items():
        if name in names or made.count(str(name)) > 1:
            raise SpecError(f"{title} makes a field {name!r}, and has one of that name; set {option}")


def _target_of(config: WindowViewConfig, cut: tuple[str, ...], title: str) -> str | None:
    if not config.shift:
        return None
    if config.target_of is None and len(cut) > 1:
        raise SpecError(f"{title} cuts the fields {', '.join(cut)}; say which of them targets are taken of, target_of=")
    target_of = config.target_of or cut[0]
    if target_of not in cut:
        raise SpecError(f"target_of={target_of!r} of {title} is none of the fields that are cut: {', '.join(cut)}")
    return target_of


def _padding(
    config: WindowViewConfig, cut: Mapping[str, jax.ShapeDtypeStruct], title: str
) -> tuple[tuple[str, Any], ...]:
    """Return what completes the windows of each field, checked to be of its dtype."""
    if config.remainder != "pad":
        return ()
    given = config.pad_value
    require_padded(given, tuple(cut), title, "cut")
    padding = []
    for name, struct in cut.items():
        value = given.get(name) if isinstance(given, Mapping) else given
        if struct.dtype.kind in "USOMm":
            if value is not None:
                raise SpecError(
                    f"pad_value of {title}: {value!r} is no {dtype_title(struct.dtype)}, the dtype of field {name!r}"
                )
            value = _nothing(struct.dtype, name, title)
        else:
            value = 0 if value is None else value
            try:
                Ragged(np.empty(0, struct.dtype), [0]).to_padded(0, value)
            except SpecError as error:
                raise SpecError(f"pad_value of {title}: {error}, the dtype of field {name!r}") from None
        padding.append((name, value))
    return tuple(padding)


def _nothing(dtype: np.dtype[Any], name: str, title: str) -> Any:
    """Return the empty text, or empty bytes."""
    if dtype.kind in "US":
        return dtype.type()
    raise SpecError(f"field {name!r} of {title} is {dtype}, which has nothing to pad with; leave out remainder='pad'")
