"""The environment of trainings on a CPU."""

from mmzeg.utils.processes import KEEP_MEMORY, training_environment


def test_a_variable_of_the_user_is_kept(monkeypatch):
    monkeypatch.delenv('GLIBC_TUNABLES', raising=False)
    monkeypatch.setenv('MALLOC_TRIM_THRESHOLD_', '7')
    monkeypatch.setenv('OMP_NUM_THREADS', '5')
    environment = training_environment()
    assert environment['GLIBC_TUNABLES'] == KEEP_MEMORY['GLIBC_TUNABLES']
    assert environment['MALLOC_TRIM_THRESHOLD_'] == '7' and environment['OMP_NUM_THREADS'] == '5'
    assert training_environment(num_threads=2)['OMP_NUM_THREADS'] == '2'
