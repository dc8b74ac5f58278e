from __future__ import annotations

import pytest
import torch
from jaxtyping import TypeCheckError
from torch import nn

from features.errors import ConfigError
from train.aligners import Aligner, MLPAligner
from train.projectors import ProjectorSwitches, VideoProjector

D, H, T, N = 6, 10, 3, 4


@pytest.fixture
def aligner() -> MLPAligner:
    torch.manual_seed(0)
    return MLPAligner(D, H, nn.GELU()).requires_grad_(False)


def clip(batch: int = 2) -> tuple[torch.Tensor, ...]:
    generator = torch.Generator().manual_seed(1)
    temporal = torch.randn(batch, T, D, generator=generator)
    spatial = torch.randn(batch, N, D, generator=generator)
    return temporal, torch.ones(batch, T).bool(), spatial, torch.ones(batch, N).bool()


def parameters(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


@pytest.mark.parametrize("features", ["both", "spatial_features", "temporal_features"])
@pytest.mark.parametrize("temporal_module", ["copy", "shared", "random"])
@pytest.mark.parametrize("extra_mlp", ["none", "alignment", "both"])
def test_every_combination_of_switches(aligner, features, temporal_module, extra_mlp) -> None:
    one, mlp = parameters(aligner), 2 * (H * H + H)
    own = {
        "both": 1 if temporal_module == "shared" else 2,
        "spatial_features": 1,
        "temporal_features": 1,
    }[features]
    lonely_copy = features == "temporal_features" and temporal_module != "shared"
    if (extra_mlp == "both" and own < 2) or (extra_mlp == "alignment" and lonely_copy):
        with pytest.raises(ConfigError, match="extra_mlp"):
            ProjectorSwitches(features, temporal_module, extra_mlp)
        return
    projector = VideoProjector(
        aligner, H, ProjectorSwitches(features, temporal_module, extra_mlp), seed=5
    )
    assert (
        parameters(projector) == own * one + {"none": 0, "alignment": 1, "both": 2}[extra_mlp] * mlp
    )
    assert all(p.requires_grad and p.dtype == torch.float32 for p in projector.parameters())
    tokens, valid = projector(*clip())
    length = {"both": T + N, "spatial_features": N, "temporal_features": T}[features]
    assert tokens.shape == (2, length, H)
    assert valid.all()
    assert projector.num_tokens(T, N) == length
    tokens.sum().backward()
    assert all(p.grad is not None for p in projector.parameters())


@pytest.mark.parametrize("temporal_module", ["copy", "shared"])
def test_temporal_tokens_come_first_and_both_modules_start_equal(aligner, temporal_module) -> None:
    projector = VideoProjector(aligner, H, ProjectorSwitches(temporal_module=temporal_module))
    temporal, temporal_valid, spatial, spatial_valid = clip()
    tokens, _ = projector(temporal, temporal_valid, spatial, spatial_valid)
    plain = torch.cat([temporal, spatial], dim=1) @ aligner.linear_1.weight.T
    plain = nn.functional.gelu(plain + aligner.linear_1.bias)
    plain = plain @ aligner.linear_2.weight.T + aligner.linear_2.bias
    torch.testing.assert_close(tokens, plain)
    assert (projector.temporal is projector.alignment) == (temporal_module == "shared")


def test_random_depends_on_the_seed_alone_and_leaves_the_alignment_module(aligner) -> None:
    switches = ProjectorSwitches(temporal_module="random", extra_mlp="both")
    torch.manual_seed(1)
    before = torch.get_rng_state()
    first = VideoProjector(aligner, H, switches, seed=7).state_dict()
    assert torch.equal(before, torch.get_rng_state())
    torch.manual_seed(2)
    again = VideoProjector(aligner, H, switches, seed=7).state_dict()
    other = VideoProjector(aligner, H, switches, seed=8).state_dict()
    assert all(torch.equal(first[k], again[k]) for k in first)
    for name, tensor in first.items():
        assert torch.equal(tensor, other[name]) == name.startswith("alignment.")
    assert torch.equal(first["alignment.linear_1.weight"], aligner.linear_1.weight)
    assert not torch.equal(first["temporal.linear_1.weight"], aligner.linear_1.weight)


def test_training_a_copy_leaves_the_base_and_the_other_module(aligner) -> None:
    projector = VideoProjector(aligner, H, ProjectorSwitches())
    with torch.no_grad():
        projector.temporal.linear_1.weight.zero_()
    assert aligner.linear_1.weight.abs().sum() > 0
    assert torch.equal(projector.alignment.linear_1.weight, aligner.linear_1.weight)


def test_rows_that_do_not_exist_have_no_influence(aligner) -> None:
    projector = VideoProjector(aligner, H, ProjectorSwitches())
    temporal, temporal_valid, spatial, spatial_valid = clip()
    temporal_valid[1, 1:] = False
    wanted, valid = projector(temporal, temporal_valid, spatial, spatial_valid)
    wanted[valid].sum().backward()
    gradients = [p.grad.clone() for p in projector.parameters()]
    projector.zero_grad()
    spoiled = temporal.masked_fill(~temporal_valid[..., None], float("nan"))
    got, got_valid = projector(spoiled, temporal_valid, spatial, spatial_valid)
    assert torch.equal(valid, got_valid)
    assert valid.sum(1).tolist() == [T + N, 1 + N] == [T + N, projector.num_tokens(1, N)]
    assert torch.equal(got[valid], wanted[valid])
    got[valid].sum().backward()
    for parameter, gradient in zip(projector.parameters(), gradients, strict=True):
        assert torch.equal(parameter.grad, gradient)


def test_an_aligner_may_change_the_number_of_tokens() -> None:
    class Mean(Aligner):  # like a resampler: one token whatever comes in
        width = D

        def __init__(self) -> None:
            super().__init__()
            self.linear = nn.Linear(D, H)

        def forward(self, x, valid):
            mean = (x * valid[..., None]).sum(1, keepdim=True) / valid.sum(1)[:, None, None]
            return self.linear(mean), torch.ones(len(x), 1, dtype=torch.bool)

        def num_tokens(self, length: int) -> int:
            return 1

    projector = VideoProjector(Mean(), H, ProjectorSwitches())
    tokens, valid = projector(*clip())
    assert tokens.shape == (2, 2, H)
    assert valid.sum(1).tolist() == [projector.num_tokens(T, N)] * 2


def test_wrong_shapes_and_switches_are_refused(aligner) -> None:
    projector = VideoProjector(aligner, H, ProjectorSwitches())
    temporal, temporal_valid, spatial, spatial_valid = clip()
    with pytest.raises(TypeCheckError):
        projector(temporal, temporal_valid[:, 1:], spatial, spatial_valid)
    with pytest.raises(ConfigError, match="spatial_window"):
        ProjectorSwitches(spatial_window=0)
    bare = MLPAligner(D, H, nn.PReLU())
    bare.act.reset_parameters = None
    with pytest.raises(NotImplementedError, match="PReLU"):
        VideoProjector(bare, H, ProjectorSwitches(temporal_module="random"))


@pytest.mark.parametrize("trained", ["temporal", "alignment"])
def test_the_other_module_wants_no_gradient(aligner, trained: str) -> None:
    projector = VideoProjector(aligner, H, ProjectorSwitches(trained=trained))
    assert not any(p.requires_grad for p in aligner.parameters())
    tokens, _ = projector(*clip())
    tokens.square().sum().backward()
    frozen = {"temporal": "alignment", "alignment": "temporal"}[trained]
    for name, parameter in projector.named_parameters():
        assert (parameter.grad is None) == name.startswith(f"{frozen}."), name
        assert torch.equal(parameter, aligner.get_parameter(name.split(".", 1)[1]))
    fresh = ProjectorSwitches(temporal_module="random", trained="temporal")
    assert all(p.requires_grad for p in VideoProjector(aligner, H, fresh).temporal.parameters())


@pytest.mark.parametrize("features", ["both", "spatial_features", "temporal_features"])
@pytest.mark.parametrize("temporal_module", ["copy", "shared", "random"])
@pytest.mark.parametrize("extra_mlp", ["none", "alignment", "both"])
@pytest.mark.parametrize("trained", ["temporal", "alignment"])
def test_one_module_is_trained_only_beside_one_of_the_base(
    features, temporal_module, extra_mlp, trained
) -> None:
    sensible = {
        ("both", "copy", "none", "temporal"),
        ("both", "copy", "none", "alignment"),
        ("both", "random", "none", "temporal"),
    }
    given = {"features": features, "temporal_module": temporal_module, "extra_mlp": extra_mlp}
    if (features, temporal_module, extra_mlp, trained) in sensible:
        assert ProjectorSwitches(**given, trained=trained).trained == trained
        return
    with pytest.raises(ConfigError, match=f"trained={trained}|extra_mlp"):
        ProjectorSwitches(**given, trained=trained)
