from outrider.device.attempts import VersionChoice, longest_pause


def test_mqtt_5_comes_first() -> None:
    assert VersionChoice().first == 5


def test_explicit_refusal_is_remembered() -> None:
    versions = VersionChoice()
    versions.fell_back(said_so=True)
    assert versions.first == 4


def test_silence_is_believed_the_second_time() -> None:
    versions = VersionChoice()
    versions.fell_back(said_so=False)
    assert versions.first == 5
    versions.fell_back(said_so=False)
    assert versions.first == 4


def test_silences_around_an_accepted_5_do_not_count() -> None:
    versions = VersionChoice()
    versions.fell_back(said_so=False)
    versions.accepted(5)
    versions.fell_back(said_so=False)
    assert versions.first == 5


def test_5_gets_another_chance_after_three_failures_in_a_row() -> None:
    versions = VersionChoice()
    versions.fell_back(said_so=True)
    versions.failed()
    versions.failed()
    versions.accepted(4)
    versions.failed()
    versions.failed()
    assert versions.first == 4
    versions.failed()
    assert versions.first == 5


def test_pauses_double_up_to_half_a_minute() -> None:
    assert [longest_pause(attempt) for attempt in range(9)] == [0.25, 0.5, 1, 2, 4, 8, 16, 30, 30]
    assert longest_pause(1_000_000) == 30
