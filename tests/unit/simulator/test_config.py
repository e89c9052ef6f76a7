"""What an experiment may say of the world."""

from forebay.simulator.config import StartConfig


def test_starts_that_take_longer_do_so_in_every_phase() -> None:
    plain = StartConfig(provisioning_s=10.0, image_s=2.0, runtime_s=3.0, weights_gb_per_s=4.0, warm_s=5.0)
    longer = plain.times(4.0)
    assert (longer.provisioning_s, longer.image_s, longer.runtime_s, longer.warm_s) == (40.0, 8.0, 12.0, 20.0)
    assert longer.weights_gb_per_s == 1.0
