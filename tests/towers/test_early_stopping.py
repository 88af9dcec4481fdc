"""Early stopping: what is held out, when training ends, and that a run that was killed stops where an undisturbed one does."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.towers import shop
from towers.checkpoints import Checkpoints
from towers.early_stopping import EarlyStopping, hold_out
from towers.settings import TrainingSettings
from towers.state import TrainingState
from transform.features import QUERY_TOKENS, TARGET_ITEMS


def texts(requests):
    column = requests.columns[QUERY_TOKENS]
    return [tuple(row[row > 0]) for row in column.padded(np.arange(requests.size))]


def test_a_twentieth_is_held_out_and_no_text_is_on_both_sides():
    requests = shop.requests(rows=4000)
    # Texts of three tokens of 40, some of them several times.
    learnt, held = hold_out(requests)
    assert learnt.size + held.size == requests.size
    assert 0.03 < held.size / requests.size < 0.07
    assert not (set(texts(learnt)) & set(texts(held))) - {()}
    assert len(set(texts(held))) < held.size, "a text comes several times"
    assert () in texts(held), "requests without a text are held out one by one"
    # The same text is held out whatever else is there: of half of the rows, half of the held-out ones.
    half = requests.take(np.arange(0, requests.size, 2))
    again = {text for text in texts(hold_out(half)[1]) if text}
    assert again == {text for text in texts(half) if text} & set(texts(held))
    targets = sum(len(part.columns[TARGET_ITEMS].values) for part in (learnt, held))
    assert targets == len(requests.columns[TARGET_ITEMS].values)


@settings(max_examples=20, deadline=None)
@given(st.integers(2, 12), st.integers(0, 1000))
def test_few_requests_are_split_too(rows, seed):
    learnt, held = hold_out(shop.requests(rows, seed))
    assert held.size >= 1 and learnt.size + held.size == rows


def test_no_more_is_held_out_than_can_be_evaluated(monkeypatch):
    monkeypatch.setattr("towers.early_stopping.MOST", 40)
    _, held = hold_out(shop.requests(rows=4000))
    assert 15 < held.size < 80


class Model:
    stop_training = False


def run(values, directory=None, done=0, until=10**6, kept=0, checkpoint=lambda done: True, **options):
    """Feeds a run of stretches of 50 steps with the values of its evaluations; what stopped it and the best state.

    Args:
      values: step -> value.
      directory: of checkpoints.
      done: steps of processes before.
      until: the step at which it is killed.
      checkpoint: whether one is written at a step.
    """
    given = TrainingSettings(**{"early_stopping": 2, "evaluation_steps": 100} | options)
    evaluated = []

    def evaluate():
        evaluated.append(place[0])
        return values[place[0]]

    def state(done):
        return TrainingState({}, 1000 + done, None, {}, {}, {"w": np.full(2, float(done))}, {})

    stopping = EarlyStopping(given, max(values), evaluate, state, directory, 1000, done)
    model, place = Model(), [done]
    stopping.set_model(model)
    model.stop_training = False
    stopping.on_train_begin()
    while place[0] < max(values) and not model.stop_training:
        place[0] += 50
        stopping.set_params({"steps": 50})
        stopping.on_epoch_end(0)
        if place[0] >= until:
            break
        if directory is not None and checkpoint(place[0]):
            writer = Checkpoints(directory, lambda _: state(place[0]), 0)
            writer.set_params({"steps": 50})
            writer.on_epoch_end(0)
    return place[0], stopping.best, evaluated


CURVE = {100: 0.1, 200: 0.3, 300: 0.3, 400: 0.2, 500: 0.9, 570: 0.9}


def test_it_stops_after_two_evaluations_without_a_gain_and_has_the_best_state():
    done, best, evaluated = run(CURVE)
    assert (done, evaluated) == (400, [100, 200, 300, 400])
    assert (best.step, best.variables["w"][0]) == (1200, 200.0)


def test_with_more_patience_it_goes_on_and_the_last_step_is_evaluated():
    values = CURVE | {600: 1.0}
    values.pop(570)
    done, best, evaluated = run(values, early_stopping=3)
    assert (done, evaluated[-2:], best.step) == (600, [500, 600], 1600)


@settings(max_examples=25, deadline=None)
@given(
    st.lists(st.sampled_from([0.1, 0.2, 0.3]), min_size=6, max_size=6),
    st.integers(1, 12),
    st.sets(st.integers(1, 12)),
)
def test_a_killed_run_ends_where_an_undisturbed_one_does(tmp_path_factory, found, killed, written):
    directory = tmp_path_factory.mktemp("killed")
    values = {100 * n: value for n, value in enumerate(found, start=1)}
    done, best, _ = run(values)
    run(values, directory, until=50 * killed, checkpoint=lambda step: step // 50 in written)
    steps = [int(place.name[5:]) - 1000 for place in directory.glob("step-*")]
    again, same, _ = run(values, directory, done=max(steps, default=0))
    assert (again, same.step, same.variables["w"].tolist()) == (done, best.step, best.variables["w"].tolist())


def test_states_that_no_checkpoint_could_go_on_with_are_taken_away(tmp_path):
    rising = {100 * n: n / 10 for n in range(1, 7)}
    run(rising, tmp_path)
    assert (
        len(list(tmp_path.glob("best-*"))) == 2
    )  # that of the last checkpoint before it was written, and its own
    run(rising, tmp_path / "none", checkpoint=lambda _: False)
    assert len(list((tmp_path / "none").glob("best-*"))) == 6, "any of them could still be needed"
