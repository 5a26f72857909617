import hypothesis
import keras
import pytest

# Examples that are the same in every run, and no clock: a loaded machine must not fail a test.
hypothesis.settings.register_profile("tests", deadline=None, derandomize=True, max_examples=25)
hypothesis.settings.load_profile("tests")


@pytest.fixture(autouse=True)
def fresh_state():
    """Seeded weights for every test; no dtype policy leaks out of one."""
    policy = keras.config.dtype_policy()
    keras.utils.set_random_seed(0)
    yield
    keras.config.set_dtype_policy(policy)
