"""Pictures and labels are mixed in pairs by the shares that each record's key draws."""

from functools import cache
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from pictures import noise
from scipy import stats

from datarax_core import StageError
from datarax_core.records import spec_of
from datarax_image import CutMix, MixUp

COUNT = 8
PIXELS = np.stack([noise(12, 10, seed=seed) for seed in range(COUNT)])
LABELS = np.array([0, 1, 2, 3, 0, 1, 2, 3])
BATCH = {"image": PIXELS, "label": LABELS}
ONE_HOT = np.eye(4, dtype=np.float32)[LABELS]


def keys(count: int = COUNT, seed: int = 0) -> jax.Array:
    return jax.random.split(jax.random.key(seed), count)


@cache
def compiled(stage: Any) -> Any:
    return jax.jit(stage)


def run(stage: Any, batch: Any = BATCH, seed: int = 0) -> Any:
    made = compiled(stage.build(spec_of(batch), nnx.Rngs()))(batch, keys(len(batch["image"]), seed))
    return {name: np.asarray(value) for name, value in made.items()}


def test_mixup_blends_pictures_as_labels() -> None:
    made = run(MixUp(field="image", label="label", classes=4))
    others = np.roll(PIXELS, 1, axis=0)
    assert made["image"].dtype == np.uint8
    assert made["label"].dtype == np.float32
    shares = set()
    for row in range(COUNT):
        kept = made["label"][row, LABELS[row]]
        assert made["label"][row, LABELS[row - 1]] == pytest.approx(1 - kept, abs=1e-6)
        assert made["label"][row].sum() == pytest.approx(1)
        wanted = kept * PIXELS[row].astype(float) + (1 - kept) * others[row]
        assert np.abs(made["image"][row] - wanted).max() <= 0.51
        shares.add(round(float(kept), 5))
    assert len(shares) == COUNT


def test_shares_are_of_the_beta_distribution_and_some_records_stay_as_they_are() -> None:
    batch = {"image": np.arange(3000, dtype=np.float32)[:, None, None], "label": np.arange(3000) % 2}
    made = run(MixUp(field="image", label="label", classes=2, alpha=2.0, probability=0.6), batch)
    kept = made["label"][np.arange(3000), batch["label"]]
    same = kept == 1
    assert 0.35 < same.mean() < 0.45
    assert np.array_equal(made["image"][same], batch["image"][same])
    assert stats.kstest(kept[~same], stats.beta(2, 2).cdf).pvalue > 1e-3


def test_cutmix_pastes_a_window_and_mixes_labels_by_its_area() -> None:
    shares = []
    for seed in range(20):
        made = run(CutMix(field="image", label="label", classes=4), seed=seed)
        others = np.roll(PIXELS, 1, axis=0)
        for row in range(COUNT):
            pasted = (made["image"][row] == others[row]).all(-1) & (PIXELS[row] != others[row]).any(-1)
            kept = (made["image"][row] == PIXELS[row]).all(-1)
            assert (pasted | kept).all()
            if pasted.any():
                rows, columns = np.flatnonzero(pasted.any(1)), np.flatnonzero(pasted.any(0))
                assert pasted[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1].all()
            share = 1 - pasted.mean()
            assert made["label"][row, LABELS[row]] == pytest.approx(share, abs=1e-6)
            assert made["label"][row, LABELS[row - 1]] == pytest.approx(1 - share, abs=1e-6)
            shares.append(share)
    # Beta(1, 1) is even, a window within the picture has the area 1 - share, and clipping and rounding add to what is kept
    assert 0.6 < np.mean(shares) < 0.85
    assert min(shares) < 0.4
    assert max(shares) > 0.95


def test_padding_is_mixed_into_no_record() -> None:
    valid = np.array([True] * 5 + [False] * 3)
    made = run(CutMix(field="image", label="label", classes=4, valid="valid"), {**BATCH, "valid": valid})
    assert np.array_equal(made["image"][0], PIXELS[0])  # whose partner is the last row
    assert np.array_equal(made["label"][0], ONE_HOT[0])
    assert made["label"][1:5].min(1).max() < 1
    assert (made["label"][1:5].max(1) < 1).any()
    with pytest.raises(StageError, match="field 'label' is no mask of bools; name the mask of pad_last"):
        run(MixUp(field="image", label="label", classes=4, valid="label"))


def test_a_number_that_is_no_class_is_seen() -> None:
    labels = np.where(LABELS == 3, 9, LABELS)
    made = run(MixUp(field="image", label="label", classes=4), {"image": PIXELS, "label": labels})
    assert np.isnan(made["label"][[3, 4, 7, 0]]).all()
    assert not np.isnan(made["label"][[1, 2]]).any()


def test_shares_of_classes_are_mixed_as_they_are_and_gradients_flow() -> None:
    soft = {"image": jnp.asarray(PIXELS / np.float32(255)), "label": jnp.asarray(ONE_HOT)}
    stage = CutMix(field="image", label="label")

    def total(image: jax.Array) -> tuple[jax.Array, Any]:
        made = stage({**soft, "image": image}, keys())
        return made["image"].sum(), made

    slope, made = jax.jit(jax.grad(total, has_aux=True))(soft["image"])
    assert made["image"].dtype == np.float32
    assert np.allclose(made["label"], run(CutMix(field="image", label="label", classes=4))["label"])
    assert np.allclose(slope.sum(), slope.size, rtol=1e-3)


@pytest.mark.parametrize(
    ("batch", "options", "message"),
    [
        (
            BATCH,
            {},
            "field 'label' holds class numbers, which are mixed as shares of classes; set classes to their number",
        ),
        (
            {**BATCH, "label": ONE_HOT},
            {"classes": 4},
            r"field 'label' is float32\[4\], and classes is for class numbers; leave it out",
        ),
        (
            {**BATCH, "label": ONE_HOT[:, 0]},
            {},
            r"field 'label' is float32\[\]; labels are class numbers, or shares of classes",
        ),
        ({**BATCH, "image": PIXELS.astype(np.int32)}, {"classes": 4}, "pictures to mix are uint8 or floats"),
        ({**BATCH, "image": LABELS}, {"classes": 4}, "pictures to mix are uint8 or floats"),
        ({"image": PIXELS}, {"classes": 4}, "the records have no field 'label'"),
    ],
)
def test_fields_that_cannot_be_mixed(batch: Any, options: Any, message: str) -> None:
    for stage in (MixUp, CutMix):
        with pytest.raises(StageError, match=message):
            run(stage(field="image", label="label", **options), batch)


@pytest.mark.parametrize("options", [{"alpha": 0.0}, {"probability": 0.0}, {"probability": 1.1}, {"classes": 0}])
def test_options_out_of_range(options: Any) -> None:
    with pytest.raises(ValueError, match=r"greater than|less than"):
        MixUp(field="image", label="label", **options)
