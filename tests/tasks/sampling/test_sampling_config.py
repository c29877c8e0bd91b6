import pytest

from tasks.sampling.sampling_config import SamplingConfig, weights


def faults(**values: object) -> list[str]:
    return SamplingConfig(**values).faults()  # type: ignore[arg-type]


def test_the_default_has_no_fault_and_is_the_mix_of_the_original() -> None:
    assert SamplingConfig().faults() == []
    assert SamplingConfig().active == {"random": 10.0, "least_confidence": 80.0, "outlier": 10.0}


def test_shares_and_numbers_weigh_alike() -> None:
    assert weights({"random": "12.5%", "entropy": " 87.5 %"}) == {"random": 12.5, "entropy": 87.5}
    assert weights({"random": 1, "entropy": 7}) == {"random": 1.0, "entropy": 7.0}
    assert faults(mix={"random": "12.5%", "entropy": "87.5%"}) == []


@pytest.mark.parametrize(
    ("mix", "values"),
    [
        ({"randon": 1}, "mix: no strategy 'randon'; did you mean 'random'?"),
        ({"xyzzy": 1}, ["mix", "'xyzzy'", "pal strategies"]),
        ({"random": -1, "entropy": 2}, ["mix", "random = -1", "0"]),
        ({"random": 0}, ["mix", "0"]),
        ({}, ["mix", "0"]),
        ({"random": "all"}, ["mix", "random = 'all'", '"80%"']),
        ({"random": "10%", "entropy": 90}, ["mix"]),
        ({"random": "10%", "entropy": "80%"}, ["mix", "90%", "100%"]),
    ],
)
def test_a_fault_of_the_mix_is_told_with_its_value(mix: dict[str, int | str], values: list[str]) -> None:
    (fault,) = faults(mix=mix)
    assert all(value in fault for value in values)
    if mix:
        assert faults(start=mix) == [fault.replace("mix:", "start:", 1)]


@pytest.mark.parametrize(
    ("options", "values"),
    [
        ({"outlyer": {}}, ["options.outlyer", "'outlier'"]),
        ({"random": {"size": 3}}, ["options.random", "'size'"]),
        ({"anchor": {"siz": 3}}, ["options.anchor", "'siz'", "anchors, neighbours, size, score"]),
        ({"anchor": {"size": "many"}}, ["options.anchor", "size = 'many'", "1000"]),
        ({"anchor": {"size": True}}, ["options.anchor", "size = True", "1000"]),
        ({"anchor": {"size": -1}}, ["options.anchor", "size = -1", "0"]),
        ({"bald": {"beta": float("nan")}}, ["options.bald", "beta = nan", "0"]),
        ({"clustered_uncertainty": {"share": 10}}, ["options.clustered_uncertainty", "share = 10", "1"]),
        ({"anchor": {"score": "anchor"}}, ["options.anchor", "score = 'anchor'"]),
        ({"anchor": {"score": "entropi"}}, ["options.anchor", "'entropi'", "'entropy'"]),
    ],
)
def test_a_fault_of_an_option_is_told_with_its_value(
    options: dict[str, dict[str, int | str]], values: list[str]
) -> None:
    (fault,) = faults(options=options)
    assert all(value in fault for value in values)


def test_options_that_fit_are_no_fault() -> None:
    assert faults(options={"anchor": {"size": 500, "score": "entropy"}, "clustered_uncertainty": {"share": 1}}) == []


def test_an_empty_keyword_is_a_fault() -> None:
    (fault,) = faults(keywords=("flood", " "))
    assert all(value in fault for value in ("keywords", "' '"))


def test_all_faults_come_at_once() -> None:
    assert len(faults(mix={"a": 1, "b": -1}, start={"random": "x"}, options={"c": {}})) == 5


def test_before_there_is_a_model_items_are_random_or_half_of_them_by_keyword_or_as_it_says() -> None:
    assert SamplingConfig().cold == {"random": 100}
    assert SamplingConfig(keywords=("flood",)).cold == {"random": 50, "keyword": 50}
    assert SamplingConfig(keywords=("flood",), start={"core_set": 1}).cold == {"core_set": 1.0}
