"""A view of type `groups`: the records of a source by the values of a field, one source a value."""

from collections.abc import Iterator, Mapping
from typing import Any, ClassVar, Final

from flax import nnx

from datarax_core.config import SourceConfig, StructuralConfig
from datarax_core.devices import Aside
from datarax_core.errors import did_you_mean
from datarax_core.order import TableSelection
from datarax_core.sources import DataSourceModule, SourceView

from .chosen import Chosen, ChosenView
from .classes import Classes, classes_of
from .groups_config import GroupsViewConfig

_LISTED: Final = 20  # groups that a plan or an error names one by one


class GroupsView(SourceView):
    """A source whose records are grouped by the values of a field: `groups` has a source for each value.

    By itself it serves all records, in the order of its parent, also those of a mixture. A mixture takes `parts`, for batches
    in which each class has its share. ``group`` in a config serves the records of one value.

    Args:
        config: Names the field.
        source: Holds the records; stays usable.
        rngs: Random streams; none are drawn from.
        name: Name of the view in errors.

    Raises:
        SpecError: There is no such field, or its values are no classes; names a record where the spec does not show it.
        NotImplementedError: The source is a stream.
        ValueError: The config has a ``group``.
    """

    config_class: ClassVar[type[SourceConfig]] = GroupsViewConfig
    config: GroupsViewConfig
    _classes = Aside[Classes]()

    def __init__(
        self,
        config: GroupsViewConfig,
        source: DataSourceModule,
        *,
        rngs: nnx.Rngs | None = None,
        name: str | None = None,
    ) -> None:
        if not isinstance(config, GroupsViewConfig):
            raise TypeError(f"{type(self).__name__} needs a GroupsViewConfig, not {config!r:.80}")
        if config.group is not None:
            raise ValueError(
                f"group={config.group!r} names one of the groups: take GroupsView.over(config, source), or without `group` "
                f"GroupsView(config, source).groups[{config.group!r}]"
            )
        super().__init__(config, source, rngs=rngs, name=name)
        source.require_record_indices()
        self._classes = classes_of(source, config.by)

    @classmethod
    def over(
        cls,
        config: StructuralConfig,
        parent: DataSourceModule,
        *,
        rngs: nnx.Rngs | None = None,
        name: str | None = None,
    ) -> DataSourceModule:
        """Return the view of one source; with ``group`` in the config, the records of that group.

        A group of a mixture is the mixture of this group of each child.
        """
        if isinstance(config, GroupsViewConfig) and config.group is not None:
            return GroupView.over(config, parent, rngs=rngs, name=str(config.group) if name is None else name)
        return super().over(config, parent, rngs=rngs, name=name)

    @property
    def groups(self) -> Mapping[Any, DataSourceModule]:
        """The records of each value, by value, ascending: Python integers, booleans, texts or bytes.

        A source of one group is made when it is asked for.
        """
        return Groups(self)

    def parts(self) -> dict[str, DataSourceModule]:
        """Return the groups by name, for a mixture: the text of the value; ``true`` and ``false`` for booleans."""
        return {_name(value): group for value, group in self.groups.items()}

    @property
    def classes(self) -> Classes:
        """The values, and for each record the number of its value."""
        return self._classes

    def view_fingerprint(self) -> dict[str, Any]:
        """Return the checksum of the groups."""
        return {"groups": self._classes.checksum}

    def describe_view(self) -> str:
        """Return the number of records of each group."""
        counts = self._classes.counts.tolist()
        listed = ", ".join(
            f"{_name(value)}: {count:,}"
            for value, count in list(zip(self._classes.values, counts, strict=True))[:_LISTED]
        )
        more = f" and {len(counts) - _LISTED:,} more" if len(counts) > _LISTED else ""
        return f"{len(counts):,} groups by {self.config.by!r}, records in each: {listed}{more}"


class GroupView(ChosenView):
    """The records of a source that have one value of a field: a group of a `GroupsView`."""

    config_class: ClassVar[type[SourceConfig]] = GroupsViewConfig
    config: GroupsViewConfig

    def choose(self, config: GroupsViewConfig, source: DataSourceModule) -> Chosen:
        """Return the records of a source that have the value.

        Raises:
            ValueError: No record has it; lists values that records have.
        """
        classes = classes_of(source, config.by)
        number = number_of(config.group, classes)
        if number is None:
            raise ValueError(no_such_group(config.group, classes, config.by, source.title))
        return TableSelection(source.num_records, classes.table(number))

    @property
    def _why_chosen(self) -> str:
        return f" where {self.config.by} is {self.config.group!r}"


class Groups(Mapping[Any, DataSourceModule]):
    """The groups of a view by their values."""

    def __init__(self, view: GroupsView) -> None:
        self._view = view

    def __getitem__(self, value: Any) -> DataSourceModule:
        view, classes = self._view, self._view.classes
        number = number_of(value, classes)
        if number is None:
            raise KeyError(no_such_group(value, classes, view.config.by, view.parent.title))
        config = view.config.model_copy(update={"group": classes.values[number]})
        if not view.parent.serves_each_once:
            return GroupsView.over(config, view.parent)
        chosen = TableSelection(view.parent.num_records, classes.table(number))
        return GroupView(config, view.parent, name=_name(classes.values[number]), chosen=chosen)

    def __iter__(self) -> Iterator[Any]:
        return iter(self._view.classes.values)

    def __len__(self) -> int:
        return len(self._view.classes.values)

    def __repr__(self) -> str:
        view = self._view
        return f"groups of {view.parent.title} by {view.config.by!r}: {_listed(view.classes.values)}"


def number_of(value: Any, classes: Classes) -> int | None:
    """Return the number of the class with this value; None if there is none. Text names bytes, too; True is not 1."""
    value = value.item() if hasattr(value, "item") else value
    for wanted in (value, value.encode()) if isinstance(value, str) else (value,):
        number = classes.numbers.get(wanted) if isinstance(wanted, int | str | bytes) else None
        if number is not None and isinstance(wanted, bool) == isinstance(classes.values[number], bool):
            return number
    return None


def no_such_group(value: Any, classes: Classes, by: str, title: str) -> str:
    """Return the message about a value that no record has."""
    close = ""
    if isinstance(value, str):
        texts = [_name(each) for each in classes.values if isinstance(each, str | bytes)]
        is_number = not texts and value in map(_name, classes.values)
        close = f"; did you mean {value}, which is no text?" if is_number else did_you_mean(value, texts)
    return f"no record of {title} has {by} {value!r}{close}; the values of {by} are {_listed(classes.values)}"


def _listed(values: tuple[Any, ...]) -> str:
    more = f" and {len(values) - _LISTED:,} more" if len(values) > _LISTED else ""
    return ", ".join(map(repr, values[:_LISTED])) + more


def _name(value: Any) -> str:
    if isinstance(value, bytes):
        return value.decode("utf-8", "backslashreplace")
    return str(value).lower() if isinstance(value, bool) else str(value)
