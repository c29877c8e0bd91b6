import numpy as np
import pytest
import torch
from pools import tokens_of
from torch import nn

from tasks.learning import training as room
from tasks.learning.training import BAG_OF_WORDS_HIDDEN, Classifier, predict_logits

V, D = 30, 8
GENERATOR = np.random.default_rng(0)
VECTORS = GENERATOR.normal(size=(V, D)).astype(np.float32)
TEXTS = [GENERATOR.integers(0, V, n).tolist() for n in (4, 1, 0, 7, 12, 2)] + [[3, 3, 3], []]


def counts_of(texts: list[list[int]]) -> torch.Tensor:
    return torch.from_numpy(np.stack([np.bincount(np.array(text, int), minlength=V) for text in texts])).float()


@pytest.mark.parametrize(("hidden", "width"), [(0, BAG_OF_WORDS_HIDDEN), (20, 20)])
def test_on_bag_of_words_it_is_the_originals_network_and_learns_as_that_does(hidden: int, width: int) -> None:
    ours = Classifier(V, 2, hidden=hidden)
    first, last = nn.Linear(V, width), nn.Linear(width, 2)
    original = nn.Sequential(first, nn.ReLU(), last)
    with torch.no_grad():
        first.weight.copy_(ours.state_dict()["bag.weight"].T)
        first.bias.copy_(ours.state_dict()["hidden.bias"])
        last.weight.copy_(ours.head.weight)
        last.bias.copy_(ours.head.bias)
        torch.testing.assert_close(ours(tokens_of(TEXTS)), original(counts_of(TEXTS)), atol=1e-6, rtol=1e-5)
    labels = torch.arange(len(TEXTS)) % 2
    for network, inputs in ((ours, tokens_of(TEXTS)), (original, counts_of(TEXTS))):
        optimiser = torch.optim.SGD(network.parameters(), lr=0.1)
        for _ in range(5):
            optimiser.zero_grad()
            nn.functional.cross_entropy(network(inputs), labels).backward()  # type: ignore[no-untyped-call]
            optimiser.step()
    torch.testing.assert_close(ours.bag.weight.T, first.weight, atol=1e-6, rtol=1e-4)
    torch.testing.assert_close(ours.head.weight, last.weight, atol=1e-6, rtol=1e-4)


def test_bag_of_words_weights_begin_as_a_linear_layer_on_counts_would() -> None:
    state = Classifier(400, 2).state_dict()
    for name in ("bag.weight", "hidden.bias"):
        assert 0.04 < float(state[name].abs().max()) <= 0.05  # 1 / sqrt(400)


@pytest.mark.parametrize("hidden", [0, 5])
def test_on_pretrained_vectors_it_is_mean_then_unit_length_then_hidden_layer_then_linear(hidden: int) -> None:
    network = Classifier(V, 3, vectors=VECTORS, hidden=hidden)
    state = {name: value.numpy() for name, value in network.state_dict().items()}
    rows = np.stack([VECTORS[text].mean(axis=0) if text else np.zeros(D, np.float32) for text in TEXTS])
    represented = rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12)
    if hidden:
        represented = np.maximum(represented @ state["hidden.weight"].T + state["hidden.bias"], 0)
    expected = represented @ state["head.weight"].T + state["head.bias"]
    with torch.inference_mode():
        inputs = tokens_of(TEXTS)
        np.testing.assert_allclose(network(inputs).numpy(), expected, atol=1e-5)
        np.testing.assert_allclose(network.represent(inputs).numpy(), represented, atol=1e-5)


def test_pretrained_vectors_stay_as_they_are_and_are_not_among_what_is_learned() -> None:
    network = Classifier(V, 2, vectors=VECTORS.copy(), hidden=5)
    assert set(network.learned_state()) == {"hidden.weight", "hidden.bias", "head.weight", "head.bias"}
    labels = torch.zeros(len(TEXTS), dtype=torch.long)
    loss = nn.functional.cross_entropy(network(tokens_of(TEXTS)), labels)
    loss.backward()  # type: ignore[no-untyped-call]
    torch.optim.SGD([p for p in network.parameters() if p.requires_grad], lr=1.0).step()
    np.testing.assert_array_equal(network.bag.weight.numpy(), VECTORS)


@pytest.mark.parametrize("vectors", [None, VECTORS], ids=["bag of words", "pretrained"])
def test_predicting_slice_by_slice_gives_what_one_pass_gives(
    vectors: np.ndarray | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    network = Classifier(V, 3, vectors=vectors)
    whole = predict_logits(network, tokens_of(TEXTS))
    assert whole.shape == (len(TEXTS), 3)
    assert whole.dtype == np.float32
    for size in (1, 3, len(TEXTS), 100):
        monkeypatch.setattr(room, "SLICE_TEXTS", size)
        np.testing.assert_allclose(predict_logits(network, tokens_of(TEXTS)), whole, atol=1e-6)


def test_predicting_leaves_no_gradients_and_no_training_mode() -> None:
    network = Classifier(V, 2).train()
    predict_logits(network, tokens_of(TEXTS))
    assert not network.training
    assert all(parameter.grad is None for parameter in network.parameters())
