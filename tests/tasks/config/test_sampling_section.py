import pytest

from tasks.config.settings import SamplingConfig, weights


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
    ("mix", "fault"),
    [
        ({"randon": 1}, "mix: no strategy 'randon'; did you mean 'random'?"),
        ({"xyzzy": 1}, "mix: no strategy 'xyzzy'; see those there are: pal strategies"),
        ({"random": -1, "entropy": 2}, "mix: random = -1; numbers start at 0"),
        ({"random": 0}, "mix: no strategy has a number above 0"),
        ({}, "mix: no strategy has a number above 0"),
        ({"random": "all"}, "mix: random = 'all'; write a share as \"80%\""),
        (
            {"random": "10%", "entropy": 90},
            "mix: numbers and shares are mixed; give all strategies the one or the other",
        ),
        ({"random": "10%", "entropy": "80%"}, "mix: the shares add up to 90%, not 100%"),
    ],
)
def test_a_fault_of_the_mix_is_told_with_its_value(mix: dict[str, int | str], fault: str) -> None:
    assert faults(mix=mix) == [fault]
    if mix:
        assert faults(start=mix) == [fault.replace("mix:", "start:", 1)]


@pytest.mark.parametrize(
    ("options", "fault"),
    [
        ({"outlyer": {}}, "options.outlyer: there is no such strategy; did you mean 'outlier'?"),
        ({"random": {"size": 3}}, "options.random: no option 'size'; it has none"),
        ({"anchor": {"siz": 3}}, "options.anchor: no option 'siz'; it has: anchors, neighbours, size, score"),
        ({"anchor": {"size": "many"}}, "options.anchor: size = 'many'; write a whole number, as the default 1000 is"),
        ({"anchor": {"size": True}}, "options.anchor: size = True; write a whole number, as the default 1000 is"),
        ({"anchor": {"size": -1}}, "options.anchor: size = -1; a number from 0 on"),
        ({"bald": {"beta": float("nan")}}, "options.bald: beta = nan; a number from 0 on"),
        ({"clustered_uncertainty": {"share": 10}}, "options.clustered_uncertainty: share = 10; at most 1"),
        ({"anchor": {"score": "anchor"}}, "options.anchor: score = 'anchor' is itself; name another"),
        ({"anchor": {"score": "entropi"}}, "options.anchor: no strategy 'entropi'; did you mean 'entropy'?"),
    ],
)
def test_a_fault_of_an_option_is_told_with_its_value(options: dict[str, dict[str, int | str]], fault: str) -> None:
    assert faults(options=options) == [fault]


def test_options_that_fit_are_no_fault() -> None:
    assert faults(options={"anchor": {"size": 500, "score": "entropy"}, "clustered_uncertainty": {"share": 1}}) == []


def test_an_empty_keyword_is_a_fault() -> None:
    assert faults(keywords=("flood", " ")) == ["keywords: ' ' is empty"]


def test_all_faults_come_at_once() -> None:
    assert len(faults(mix={"a": 1, "b": -1}, start={"random": "x"}, options={"c": {}})) == 5


def test_before_there_is_a_model_items_are_random_or_half_of_them_by_keyword_or_as_it_says() -> None:
    assert SamplingConfig().cold == {"random": 100}
    assert SamplingConfig(keywords=("flood",)).cold == {"random": 50, "keyword": 50}
    assert SamplingConfig(keywords=("flood",), start={"core_set": 1}).cold == {"core_set": 1.0}
