from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch

from features.annotations import QASample
from features.errors import AnnotationError, StoreError
from features.plan import SourceVideo, extend_plan
from features.spec import FeatureSpec
from features.store import FeatureStore, VideoRow, create_store, write_shard
from train.batch import collate
from train.projectors import ProjectorSwitches
from train.prompt import IGNORE, Prompter
from train.questions import QuestionDataset, Source
from train.steps import Rank, StepSampler, cut_step, epoch_rows, make_loader
from train.videos import VideoReader

T, N, D = 4, 16, 6
SPEC = FeatureSpec("checkpoint", "0" * 64, 32, "crop-bicubic", T, store_dtype="float32")
NUM_FRAMES = {"v0": 4, "v1": 2, "v2": 4, "v3": 1}


def features_of(video_id: str) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(int(video_id[1:]))
    temporal = rng.standard_normal((NUM_FRAMES[video_id], D), dtype=np.float32)
    return temporal, rng.standard_normal((N, D), dtype=np.float32)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> FeatureStore:
    """Four videos, two of them short, and one that failed."""
    path = create_store(tmp_path_factory.mktemp("store") / "s", SPEC)
    videos = [SourceVideo(f"v{i}", f"v{i}.mp4", 1, "d") for i in range(5)]
    plan = extend_plan(path, videos, 3, {})
    for shard, rows in plan.shards().items():
        made = [
            VideoRow(row.video_id, "truncated", "cut off")
            if row.video_id == "v4"
            else VideoRow(row.video_id, "ok", "", *features_of(row.video_id))
            for row in rows
        ]
        write_shard(path, SPEC, plan, shard, made)
    return FeatureStore.open(path)


def toy(text: str) -> dict[str, list[int]]:
    words = text.split()
    return {"input_ids": [1, *(4 if word == "<image>" else 10 + len(word) for word in words)]}


PROMPTER = Prompter(toy, "USER: <image>\n{question} ASSISTANT:", 4, 2)


def make_dataset(store: FeatureStore, samples, max_length: int = 100, window: int = 1):
    source = Source(samples, VideoReader(store, ProjectorSwitches(spatial_window=window)))
    return QuestionDataset([source], PROMPTER, lambda t, n: t + n, T, max_length)


def questions(count: int) -> list[QASample]:
    """Question i is i words long, about video i % 4."""
    return [
        QASample(f"q{i:02d}", f"v{i % 4}", " ".join(["word"] * (i + 1)), "yes")
        for i in range(count)
    ]


def test_items_hold_the_stored_features_and_placeholders_for_them(store: FeatureStore) -> None:
    dataset = make_dataset(store, questions(4))
    for index, video_id in enumerate(NUM_FRAMES):
        item = dataset[(index,)]
        temporal, spatial = features_of(video_id)
        assert np.array_equal(item.video.temporal.numpy(), temporal)
        assert np.array_equal(item.video.spatial.numpy(), spatial)
        assert (item.prompt.input_ids == 4).sum() == NUM_FRAMES[video_id] + N
        assert dataset[(index,)].video is item.video  # kept in memory
    small = VideoReader(store, cache_bytes=item.video.spatial.nbytes)
    assert small["v0"] is not small["v0"]


def test_spatial_window_pools_at_load_time(store: FeatureStore) -> None:
    item = make_dataset(store, questions(1), window=2)[(0,)]
    grid = features_of("v0")[1].reshape(2, 2, 2, 2, D)
    np.testing.assert_allclose(
        item.video.spatial.numpy(), grid.mean(axis=(1, 3)).reshape(4, D), rtol=1e-6
    )
    assert (item.prompt.input_ids == 4).sum() == T + 4


def test_shuffled_frames_are_in_an_order_of_the_videos_own(store: FeatureStore) -> None:
    shuffled = ProjectorSwitches(video="shuffled")
    reader = VideoReader(store, shuffled)
    orders = {}
    for video_id in NUM_FRAMES:
        temporal, spatial = features_of(video_id)
        video = reader[video_id]
        (here, orders[video_id]) = np.nonzero((video.temporal.numpy()[:, None] == temporal).all(2))
        assert here.tolist() == list(range(len(temporal)))  # each row is one of the stored ones
        assert sorted(orders[video_id]) == here.tolist()  # and each stored one is there
        assert np.array_equal(video.spatial.numpy(), spatial)
        torch.manual_seed(9)
        again = VideoReader(FeatureStore.open(store.path), shuffled, cache_bytes=0)[video_id]
        assert torch.equal(again.temporal, video.temporal)
    # printf 'v0\n0' | sha256sum begins with 0ec, row 1 with b23, 2 with 49b, 3 with 288
    assert orders["v0"].tolist() == [0, 3, 2, 1]
    # 464, 1b4, 040, 13e
    assert orders["v2"].tolist() == [2, 3, 1, 0]


def test_a_blank_video_is_as_long_and_holds_nothing(store: FeatureStore) -> None:
    reader = VideoReader(store, ProjectorSwitches(video="blank", spatial_window=2))
    for video_id, frames in NUM_FRAMES.items():
        assert torch.equal(reader[video_id].temporal, torch.zeros(frames, D))
        assert torch.equal(reader[video_id].spatial, torch.zeros(4, D))


def test_lost_and_truncated_questions_are_counted(store: FeatureStore) -> None:
    samples = [
        QASample("a", "v4", "what", "yes"),
        QASample("b", "nowhere", "what", "yes"),
        QASample("c", "nowhere", "what", "yes"),
        QASample("d", "v1", "what", "a very long answer it is"),
        QASample("e", "v0", "what", "yes"),
    ]
    dataset = make_dataset(store, samples, max_length=T + N + 8)
    assert dataset.counts() == {
        "asked": 5,
        "used": 2,
        "lost": {"truncated": 1, "not-extracted": 2},
        "truncated": 1,
    }
    assert [s.sample_id for s in dataset.samples] == ["d", "e"]
    with pytest.raises(AnnotationError, match="sample d"):
        make_dataset(store, samples, max_length=T + N)


def test_a_feature_that_is_not_finite_is_refused(store: FeatureStore, monkeypatch) -> None:
    reader = VideoReader(store)
    features = store["v0"]
    features.temporal[2, 1] = np.inf
    monkeypatch.setattr(FeatureStore, "__getitem__", lambda self, video_id: features)
    with pytest.raises(StoreError, match=r"not finite.*v0"):
        reader["v0"]


class Asked(QuestionDataset):
    """As much of a dataset as decides its steps: question i is about video i % videos."""

    def __init__(self, count: int, videos: int = 1) -> None:
        self.videos = [f"v{i % videos}" for i in range(count)]

    def __len__(self) -> int:
        return len(self.videos)

    def cost(self, row: tuple[int, ...]) -> int:
        return 300 + sum(20 + index for index in row)


@pytest.mark.parametrize("per_row", [1, 3])
@pytest.mark.parametrize(
    ("count", "batch", "epochs"), [(10, 4, 1), (10, 4, 3), (3, 4, 2), (8, 4, 0)]
)
def test_steps_are_full_and_epochs_whole(count: int, batch: int, epochs: int, per_row: int) -> None:
    asked = Asked(count, videos=2)
    sampler = StepSampler(asked, batch, epochs, 1, per_row)
    steps = list(sampler)
    assert len(steps) == len(sampler) == count * epochs // batch
    assert all(sum(map(len, step)) == batch for step in steps)
    assert sampler.dropped == count * epochs % batch
    assert all(len(row) <= per_row for step in steps for row in step)
    assert all(len({asked.videos[i] for i in row}) == 1 for step in steps for row in step)
    seen = Counter(index for step in steps for row in step for index in row)
    assert max(seen.values(), default=0) <= epochs
    assert sum(seen.values()) == len(steps) * batch
    assert steps == list(StepSampler(asked, batch, epochs, 1, per_row))
    if len(steps) > 1:
        assert steps != list(StepSampler(asked, batch, epochs, 2, per_row))


def test_one_question_a_row_is_a_plain_permutation() -> None:
    rows = epoch_rows(Asked(50, videos=7).videos, 1, np.random.default_rng([3, 0]))
    assert [i for (i,) in rows] == np.random.default_rng([3, 0]).permutation(50).tolist()


def test_rows_of_a_video_come_at_any_place_of_the_epoch() -> None:
    """A video with many questions is as likely late as early: no drift of lengths in an epoch."""
    videos = ["many"] * 6 + [f"one{i}" for i in range(94)]
    places = []
    for seed in range(400):
        rows = epoch_rows(videos, 6, np.random.default_rng(seed))
        assert sorted(i for row in rows for i in row) == list(range(100))
        places.append([len(row) for row in rows].index(6))
    assert abs(np.mean(places) - 47) < 4 * 27.4 / 20  # uniform over 95 places, 4 standard errors


@pytest.mark.parametrize(("per_row", "count"), [(1, 2), (4, 2), (4, 3), (8, 5)])
def test_ranks_share_each_step_by_cost(per_row: int, count: int) -> None:
    asked = Asked(60, videos=9)
    whole = list(StepSampler(asked, 8, 2, 0, per_row))
    ranks = [list(StepSampler(asked, 8, 2, 0, per_row, rank=Rank(i, count))) for i in range(count)]
    for step, *shares in zip(whole, *ranks, strict=True):
        assert sorted(step) == sorted(row for share in shares for row in share)
        costs = [sum(map(asked.cost, share)) for share in shares]
        assert max(costs) - min(costs) <= max(map(asked.cost, step))


@pytest.mark.parametrize("side", ["right", "left"])
def test_collate_pads_on_the_side_asked_for(store: FeatureStore, side) -> None:
    dataset = make_dataset(store, questions(4))
    items = [dataset[(0,)], dataset[(1,)]]
    batch = collate(items, pad_token_id=0, side=side)
    for row, item in enumerate(items):
        length, frames = len(item.prompt.input_ids), len(item.video.temporal)
        there = batch.segment_ids[row] >= 0
        assert there.sum() == length
        assert there[:length].all() if side == "right" else there[-length:].all()
        assert torch.equal(batch.attention_mask[row].bool(), there)
        assert batch.input_ids[row][there].tolist() == item.prompt.input_ids.tolist()
        assert batch.labels[row][there].tolist() == item.prompt.labels.tolist()
        assert batch.position_ids[row][there].tolist() == list(range(length))
        assert (batch.input_ids[row][~there] == 0).all()
        assert (batch.labels[row][~there] == IGNORE).all()
        assert batch.temporal_valid[row].tolist() == [True] * frames + [False] * (T - frames)
        assert (batch.temporal[row, frames:] == 0).all()
    assert batch.num_answer_tokens == 4
    assert batch.to("cpu").sample_ids == ("q00", "q01")


def test_a_step_is_cut_by_questions_and_by_tokens(store: FeatureStore) -> None:
    dataset = make_dataset(store, questions(12))
    items = [dataset[(i,)] for i in range(12)]
    for most_questions, most_tokens in [(12, 10**6), (5, 10**6), (12, 100), (1, 1), (3, 64)]:
        batches = cut_step(items, 0, most_questions, most_tokens)
        ids = [sample_id for batch in batches for sample_id in batch.sample_ids]
        assert sorted(ids) == [item.sample_ids[0] for item in items]
        for batch in batches:
            rows, length = batch.input_ids.shape
            assert rows <= most_questions
            assert rows == 1 or rows * length <= most_tokens
        lengths = [batch.input_ids.shape[1] for batch in batches]
        assert lengths == sorted(lengths, reverse=True)
        assert sum(batch.num_answer_tokens for batch in batches) == 24
    assert len(cut_step(items, 0, 12, 10**6)) == 1


def test_steps_do_not_depend_on_the_number_of_workers(store: FeatureStore) -> None:
    runs = []
    for workers in (0, 2):
        dataset = make_dataset(store, questions(11))
        loader = make_loader(dataset, StepSampler(dataset, 4, 2, 3, 2), 0, 2, 1000, workers)
        runs.append(list(loader))
    assert len(runs[0]) == len(runs[1]) == 5
    for one, other in zip(*runs, strict=True):
        assert sum(len(batch.sample_ids) for batch in one) == 4
        assert [b.sample_ids for b in one] == [b.sample_ids for b in other]
        for a, b in zip(one, other, strict=True):
            assert torch.equal(a.input_ids, b.input_ids)
            assert torch.equal(a.temporal, b.temporal)
            assert torch.equal(a.spatial, b.spatial)


def test_the_file_order_of_the_questions_decides_nothing(store: FeatureStore) -> None:
    samples = questions(6)
    assert make_dataset(store, samples[::-1]).samples == samples


def test_an_absent_store_is_one_clear_line(tmp_path: Path) -> None:
    with pytest.raises(StoreError):
        FeatureStore.open(tmp_path)
