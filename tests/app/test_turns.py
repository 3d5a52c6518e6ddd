from __future__ import annotations

import threading
import time

from segspn.app.turns import Turns


def test_a_waiter_gets_its_turn_before_the_one_who_just_had_it():
    turns, order, asked = Turns(), [], threading.Event()

    def greedy() -> None:
        for _ in range(50):
            with turns:
                order.append("run")
                asked.set()
                time.sleep(0.002)

    thread = threading.Thread(target=greedy)
    thread.start()
    asked.wait()
    with turns:
        order.append("click")
    thread.join()
    assert order.index("click") < 10 and len(order) == 51


def test_never_two_at_once():
    turns, inside, most = Turns(), [], []

    def work() -> None:
        for _ in range(30):
            with turns:
                inside.append(1)
                most.append(len(inside))
                time.sleep(0.0002)
                inside.pop()

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert max(most) == 1 and len(most) == 120
