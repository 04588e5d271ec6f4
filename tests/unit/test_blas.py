"""One thread for matrix products, and the former number of threads after them."""

import threading

import pytest

from hwsim.engine import blas


def test_threads_come_back_behind_the_last_caller() -> None:
    found = blas._find_controls()
    if found is None:
        pytest.skip("NumPy carries no OpenBLAS of its own here")
    get_threads, set_threads = found
    before = get_threads()
    set_threads(2)
    try:
        most = get_threads()  # 1 where the library was built or started for one
        inside, leave = threading.Event(), threading.Event()

        def stay() -> None:
            with blas.use_one_thread():
                inside.set()
                leave.wait(10)

        other = threading.Thread(target=stay)
        with blas.use_one_thread():
            other.start()
            assert inside.wait(10)
            assert get_threads() == 1
        assert get_threads() == 1  # the other caller is still inside
        leave.set()
        other.join(10)
        assert get_threads() == most
        with pytest.raises(ValueError, match="product"), blas.use_one_thread():
            raise ValueError("product")
        assert get_threads() == most
    finally:
        set_threads(before)
