"""Networks tuned to labels: what is trained, that predictions of labelled networks are honest, files, and the rest."""

import dataclasses

import numpy as np
import pytest
import torch
from own_labels import codes, value

import aiop
from aiop.errors import AiopError
from aiop.graph_ir.features import encode
from aiop.predictor import tuning
from aiop.predictor.tuned_network import MODES, TunedNetwork, TunedNetworks
from aiop.predictor.tuning import FOLDS, TuningSettings, tune
from aiop.tasks.networks import read

SHORT = TuningSettings(epochs=1, least_steps=3, most_steps=3, batch_size=4)
NETWORKS = codes(70)


@pytest.fixture(scope="module")
def module():
    return aiop.load().module


@pytest.fixture(scope="module")
def graphs():
    return [encode(read(name)) for name in NETWORKS]


@pytest.fixture(scope="module")
def targets():
    values = np.array([value(name) for name in NETWORKS])
    return (values - values.mean()) / values.std()


@pytest.mark.parametrize("mode", MODES)
def test_only_what_the_mode_names_is_trained(module, graphs, targets, mode):
    before = {name: tensor.clone() for name, tensor in module.state_dict().items()}
    tuned, _ = tune(module, graphs[:20], targets[:20], mode, settings=SHORT)
    assert all(torch.equal(before[name], tensor) for name, tensor in module.state_dict().items())
    assert len(tuned.networks) == FOLDS
    for network, start in zip(tuned.networks, tuned.starts, strict=True):
        pretrained = module.members[start].backbone
        same = [
            torch.equal(mine, theirs)
            for mine, theirs in zip(network.backbone.parameters(), pretrained.parameters(), strict=True)
        ]
        assert all(same) == (mode != "all")
        assert (network.adapter is not None) == (mode == "adapter")
        assert not network.training


@pytest.mark.parametrize("mode", MODES)
def test_the_same_seed_gives_the_same_and_a_copy_from_data_too(module, graphs, targets, mode):
    torch.manual_seed(3)
    state = torch.get_rng_state()
    tuned, held_out = tune(module, graphs[:20], targets[:20], mode, settings=SHORT, seed=1)
    assert torch.equal(torch.get_rng_state(), state)
    again, repeated = tune(module, graphs[:20], targets[:20], mode, settings=SHORT, seed=1)
    assert np.array_equal(held_out, repeated)
    assert np.array_equal(tuned.predict(graphs[20:24]), again.predict(graphs[20:24]))
    arrays, document = tuned.to_state()
    restored = TunedNetworks.from_state(arrays, document, module)
    assert np.array_equal(restored.predict(graphs[20:24]), tuned.predict(graphs[20:24]))
    other = tune(module, graphs[:20], targets[:20], mode, settings=SHORT, seed=2)[1]
    assert not np.array_equal(held_out, other)


def test_bytes_are_within_half_a_step_of_the_weights(module):
    network = TunedNetwork(module.members[0], "all")
    rng = np.random.default_rng(0)
    weight = network.backbone.layers[0].own.weight
    start = weight.detach().clone()
    with torch.no_grad():
        weight += torch.from_numpy(rng.normal(size=weight.shape).astype(np.float32))
    exact = weight.detach().clone()
    network.put(network.changes())
    limit = (exact - start).abs().max(dim=1, keepdim=True).values / 127 / 2
    assert ((weight - exact).abs() <= limit * 1.001 + 1e-6).all()
    assert not torch.equal(weight, exact)


def test_a_label_has_no_part_in_what_is_said_of_its_own_network(module, graphs, targets):
    held_out = tune(module, graphs[:20], targets[:20], "heads", settings=SHORT)[1]
    moved = targets[:20].copy()
    moved[5] += 3.0
    changed = tune(module, graphs[:20], moved, "heads", settings=SHORT)[1] != held_out
    assert not changed[5]
    assert changed.sum() > 10  # others saw it


def test_twins_are_left_out_together(module, graphs, targets):
    twins = [graphs[0], *graphs[:20]]
    marks = ["twin", "twin", *map(str, range(19))]
    values = np.concatenate([[targets[0]], targets[:20]])
    held_out = tune(module, twins, values, "heads", settings=SHORT, marks=marks)[1]
    moved = values.copy()
    moved[0] += 3.0
    changed = tune(module, twins, moved, "heads", settings=SHORT, marks=marks)[1] != held_out
    assert not changed[:2].any()
    assert changed.any()


def test_training_everything_fits_what_the_embeddings_do_not_tell(module, graphs):
    noise = np.random.default_rng(5).normal(size=16)
    errors = []
    for steps in (0, 120):
        given = dataclasses.replace(SHORT, least_steps=steps, most_steps=steps, batch_size=16, ranking=0.0)
        run = tuning._Run(
            TunedNetwork(module.members[0], "all"), graphs[:16], noise, given, np.random.default_rng(0)
        )
        errors.append(np.square(run.train(lambda share: None).eval().outputs(graphs[:16]) - noise).mean())
    assert errors[1] < 0.5 * errors[0]


def test_the_output_starts_as_ridge_regression(module, graphs, targets):
    from sklearn.linear_model import Ridge

    network = TunedNetwork(module.members[0], "heads").eval()
    embeddings = tuning._Run(network, graphs[:40], targets[:40], SHORT, np.random.default_rng(0)).embeddings
    scaled = ((embeddings - embeddings.mean(0)) / embeddings.std(0)).double().numpy()
    said = network.outputs(graphs[:40])
    fits = [Ridge(penalty).fit(scaled, targets[:40]).predict(scaled) for penalty in tuning._PENALTIES]
    assert min(np.abs(said - fit).max() for fit in fits) < 1e-3


def test_progress_adds_up_to_all_of_it(module, graphs, targets):
    shares = []
    tune(module, graphs[:20], targets[:20], "heads", settings=SHORT, advance=shares.append)
    assert sum(shares) == pytest.approx(1.0)


def test_too_few_labels_and_unknown_modes_are_refused_in_one_line(module, graphs, targets, own_cache):
    with pytest.raises(AiopError, match="19 labels are too few to tune"):
        tune(module, graphs[:19], targets[:19], "all")
    with pytest.raises(AiopError, match=r"adaptor.*did you mean"):
        aiop.fit_head({name: value(name) for name in NETWORKS[:20]}, tune="adaptor")


def test_a_tuned_head_is_saved_and_loaded_and_judged_honestly(own_table, tmp_path, monkeypatch):
    monkeypatch.setitem(tuning.SETTINGS, "all", SHORT)
    head = aiop.fit_head(own_table, "top1", budget=24, tune="all")
    assert "tuned" in head.head.weights_
    path = tmp_path / "tuned.head"
    head.save(path)
    assert sum(array.nbytes for array in head.tuned.to_state()[0].values()) < 1_000_000
    loaded = aiop.load_head(path)
    new = [name for name in codes(200, seed=1) if name not in codes(60)][:5]
    for mine, theirs in zip(loaded.predict(new), head.predict(new), strict=True):
        first, second = mine.predictions[0], theirs.predictions[0]
        assert (first.value, first.low, first.high) == pytest.approx((second.value, second.low, second.high))
    found = loaded.evaluate(own_table)
    assert int(found.seen.sum()) == 24
    assert found.predicted[found.seen] == pytest.approx(np.clip(head.record.held_out, 0, 100))


def test_a_file_with_foreign_tuned_weights_is_refused(module, graphs, targets):
    arrays, document = tune(module, graphs[:20], targets[:20], "heads", settings=SHORT)[0].to_state()
    for broken in (
        {**document, "starts": [0] * 100},
        {**document, "starts": [7] * FOLDS},
        {**document, "starts": ["0"] * FOLDS},
        {**document, "mode": "all"},
    ):
        with pytest.raises((ValueError, AiopError)):
            TunedNetworks.from_state(arrays, broken, module)
    name = next(iter(arrays))
    with pytest.raises(ValueError, match=r"shape|another"):
        TunedNetworks.from_state({**arrays, name: np.zeros((3, 3))}, document, module)
    with pytest.raises((ValueError, IndexError)):
        TunedNetworks.from_state({**arrays, "9/x": np.zeros(3)}, document, module)
