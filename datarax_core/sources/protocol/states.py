"""The states of a source: what a saved position must match, and what is restored; copies at position 0."""

from typing import Any, ClassVar, Self

import numpy as np
from flax import nnx

from datarax_core.config.models import DataraxModuleConfig
from datarax_core.modules.cursor import Cursor
from datarax_core.modules.fingerprints import Names, changes_of, noted, require_same
from datarax_core.modules.state import (
    require_dict,
    require_keys,
    require_position,
    restore_variables,
    saved_in_loop,
    variable_state,
)
from datarax_core.order.numbers import seed_number
from datarax_core.order.order import ORDER_RULE
from datarax_core.records.digests import class_name
from datarax_core.records.spec import describe
from datarax_core.sources.identity import config_entries

from .order import OrderedAccess


class SourceStates(OrderedAccess):
    """Copies, fingerprints and states of a source, whose position is in its ``cursor``."""

    cursor: Cursor
    """The position of the next record, ``cursor.position``, and the run that it belongs to.

    Called: read and moved by everything that serves batches, by one thread at a time.
    """

    not_saved: ClassVar[tuple[str, ...]] = ("cursor.",)
    """Prefixes of the names of variables that states leave out, since they are saved in another form or by another source.

    Called: by `get_state` and `set_state`.
    Default: ``("cursor.",)``; add the prefixes of variables that a class saves otherwise.
    """

    config_in_fingerprint: ClassVar[bool] = True
    """Whether a restored state must match the config, but for its ``may_differ``; False if `fingerprint` names what must.

    Called: by `fingerprint`, when a state is saved or restored.
    Default: True: any change of the config, but for its ``may_differ``, refuses a state.
    """

    def copy(
        self, *, config: DataraxModuleConfig | None = None, rngs: nnx.Rngs | None = None, name: str | None = None
    ) -> Self:
        """Return a new source over the same records at position 0, with the given arguments in place of this source's own.

        Without ``rngs``, a shuffled copy serves this source's order, and draws nothing from this source's random streams.

        Called: by users, and by views and pipelines for a stream that they read besides.
        Default: calls the constructor with `constructor_data`.
        """
        twin = super().copy(config=config, rngs=nnx.clone(self.rngs) if rngs is None else rngs, name=name)
        if rngs is None and twin.order_key is not None and self.order_key is not None:
            twin.order_key.set_raw_value(self.order_key.get_raw_value())
        twin._saved_work.reading = self._saved_work.reading  # noqa: SLF001 - of this class; both read the same data
        return twin

    def reset(self, seed: int | None = None) -> None:
        """Return to the start of the first epoch; with ``seed``, in the order of a source built with ``nnx.Rngs(seed)``.

        Called: by users, by `Pipeline.reset` for a stream, and by `begin_epoch`; while nothing else reads.
        Default: moves to position 0; with a seed, draws another order.
        """
        if seed is not None:
            self._reseed(seed_number(seed))
        self.cursor.restore(0, 0)
        self.cursor.forget_changes()

    def fingerprint(self) -> dict[str, Any]:
        """Return the facts that a restored state must match, as JSON: class, config, length, element spec, order and its key.

        A source whose author does not write this method adds a sample of the files that its config names as ``LocalPath`` or
        ``LocalPattern``, and of sixteen records, which are read when the fingerprint is first asked for.

        Called: when a state is saved or restored, before each batch of a stream that a pipeline reads, when a pipeline is made
            in a run of several processes, and by the kit; on the thread that asks, never while a batch is read for one.
        Default: the entries named above. Override it with ``{**super().fingerprint(), ...}``, and what tells the data
            apart; nothing is sampled then.
        """
        own_key = self.order_key_data()
        is_stream = self.access == "stream"
        entries = {"config": config_entries(self.config)} if self.config_in_fingerprint else {}
        if self._is_sampled:
            entries |= self._data_entries()
        return {
            **entries,
            "source": type(self).__name__,
            "class": class_name(type(self)),
            "length": self.epoch_length if is_stream else self._checked_length(),
            "element_spec": describe(self.element_spec()),
            "order": "stream" if is_stream else self._order_rule(),
            "seed": None if own_key is None else np.asarray(own_key).tolist(),
        }

    def entries_of_places(self) -> frozenset[str]:
        """Return names of entries of `fingerprint` that decide which record a position means, besides length, order and key.

        `set_state` never takes them in ``but``. A source whose order depends on more overrides this.

        Called: by `set_state` with ``but``, to refuse what would move positions.
        Default: an empty set.
        """
        return frozenset()

    def get_state(self) -> dict[str, Any]:
        """Return position, variables and fingerprint as JSON: some hundred bytes besides the source's own variables.

        Raises:
            RuntimeError: The source is an argument of compiled code, which knows no position as it is traced.

        Called: by users, by `Pipeline.get_state`, and before each batch of a stream that a pipeline reads, on the thread
            that reads.
        Default: position, variables and `fingerprint`.
        """
        cursor = self.cursor
        if cursor.is_traced:
            raise RuntimeError(
                f"cannot get the state of {self.title} inside a compiled function; call it between batches"
            )
        progress = {"position": cursor.position, "run_start": cursor.run_start, "in_loop": cursor.in_loop}
        saved = {"variables": self.saved_variables(), "fingerprint": self.fingerprint()}
        return {**progress, **saved, **noted(cursor.changes)}

    def set_state(self, state: dict[str, Any], but: Names = ()) -> None:
        """Restore a state that `get_state` returned; nothing is changed unless all of it fits.

        Args:
            state: The state.
            but: Names of entries of the fingerprint that were changed on purpose, as an error prints them; everything else is
                held to. What differs is listed in the next states, under ``changed``.

        Raises:
            TypeError: ``state`` is not a dict.
            StateError: The state is of another source; names every difference.
            ValueError: ``but`` names what is no entry, or decides which record a position means.

        Called: by users, by `Pipeline.set_state` for streams, and when a stream that was read ahead is taken back.
        Default: checks the fingerprint, and restores what `get_state` returned.
        """
        require_dict(state, self.title)
        keys = {"position", "run_start", "variables", "fingerprint"}
        require_keys(state, keys, self.title, optional={"in_loop", "changed"})
        changed = require_same(state["fingerprint"], self.fingerprint(), self.title, but, self.entries_of_places)
        position, run_start = require_position(state, self.title)
        in_loop, changes = saved_in_loop(state, self.title), changes_of(state, self.title)
        self.restore_saved_variables(state["variables"])
        self.cursor.restore(position, run_start, in_loop=in_loop)
        self.cursor.note_changes((*changes, {"at": position, **changed}) if changed else changes)

    def saved_variables(self) -> dict[str, Any]:
        """Return the variables of a state by dotted name: all but those that `not_saved` leaves out.

        Called: by `get_state`.
        """
        variables = {n: v for n, v in variable_state(self).items() if not n.startswith(self.not_saved)}
        if self.order_key is not None:
            variables["order_key"] = np.asarray(variables["order_key"]).tolist()
        return variables

    def restore_saved_variables(self, variables: Any) -> None:
        """Give the variables the values that `saved_variables` returned; those in `not_saved` keep theirs.

        Raises:
            StateError: Names every variable that is missing or unknown, or whose value does not fit.

        Called: by `set_state`.
        """
        if isinstance(variables, dict):
            variables = variables | {n: v for n, v in variable_state(self).items() if n.startswith(self.not_saved)}
        restore_variables(self, variables)

    def _order_rule(self) -> str:
        if self._is_ordered_by_author:
            return "shuffled by get_batch_at"
        return f"{'sequential' if self.order_key_data() is None else 'shuffled'}, rule {ORDER_RULE}"

    @property
    def _is_sampled(self) -> bool:
        return type(self).fingerprint is SourceStates.fingerprint

    def _reseed(self, seed: int) -> None:
        if self.order_key is not None:
            self.order_key.set_raw_value(self.draw_order_key(nnx.Rngs(seed)))
